"""Runs an experiment over several seeds, judges it and keeps what it found in one file."""

import json
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.claims.claim import Claim, Measurement, Verdict
from benchmarks.claims.interval import Interval, t_interval
from benchmarks.machine import commit, hardware, today
from trainer.artifacts import write_atomic

SEEDS = 3


class Outcome(BaseModel):
    """One claim as it lies in claims.json; `gain` is measured after − before with its 95 % interval over seeds. All
    four are null where the machine cannot measure the figure."""

    title: str
    unit: str
    claimed_before: float | None
    claimed_after: float | None
    claimed_gain: float
    before: float | None
    after: float | None
    gain: float | None
    interval: tuple[float, float] | None
    verdict: Verdict
    seeds: list[int]
    quick: bool
    limits: str
    details: list[dict[str, float]]
    seconds: float
    date: str
    hardware: str
    commit: str | None


def judge(claimed_gain: float, measured: Interval) -> Verdict:
    """Met: the mean reaches the claim and the interval excludes no gain at all. An interval that holds both no gain
    and the whole claim decides nothing: then more seeds or a larger size are needed."""
    sign = 1 if claimed_gain >= 0 else -1
    low, high = sorted((sign * measured.low, sign * measured.high))
    claimed = abs(claimed_gain)
    if low <= 0 and high >= claimed:
        return "not measurable at this size"
    return "met" if low > 0 and sign * measured.mean >= claimed else "not met"


def run(claim: Claim, seeds: Iterable[int], quick: bool) -> Outcome:
    """Measure every seed and judge."""
    started = time.monotonic()
    seeds = list(seeds)
    found: list[Measurement] = []
    for seed in seeds:
        print(f"claim {claim.number}: seed {seed}, {len(found) + 1} of {len(seeds)}", file=sys.stderr, flush=True)
        found.append(claim.measure(seed, quick))
    gains = [m.gain for m in found if m.gain is not None]
    interval = t_interval(gains) if len(gains) == len(found) else None
    return Outcome(
        title=claim.title, unit=claim.unit, claimed_before=claim.before, claimed_after=claim.after,
        claimed_gain=claim.gain, before=_mean(m.before for m in found), after=_mean(m.after for m in found),
        gain=interval.mean if interval else None, interval=(interval.low, interval.high) if interval else None,
        verdict=judge(claim.gain, interval) if interval else "not measurable at this size", seeds=seeds, quick=quick,
        limits=claim.limits, details=[m.details for m in found], seconds=time.monotonic() - started, date=today(),
        hardware=hardware(), commit=commit(Path(__file__).parent),
    )  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    """Of values that this machine could measure for all seeds, else nothing."""
    values = list(values)
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def keep(path: Path, outcomes: dict[int, Outcome]) -> None:
    """Merge into the results file; claims that were not run now keep their last outcome."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    kept |= {str(number): outcome.model_dump() for number, outcome in outcomes.items()}
    ordered = dict(sorted(kept.items(), key=lambda item: int(item[0])))
    write_atomic(path, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def describe(number: int, outcome: Outcome) -> str:
    """Claimed beside measured, in points and relative; then every detail with its interval."""
    lines = [
        f"claim {number}: {outcome.title} [{outcome.unit}]",
        f"  claimed   {_arms(outcome.claimed_before, outcome.claimed_after)}",
        f"  measured  {_measured(outcome)}",
        f"  verdict   {outcome.verdict}{' (quick size)' if outcome.quick else ''}, {outcome.seconds:.0f} s",
    ]
    if outcome.limits:
        lines.append(f"  limits    {outcome.limits}")
    for name in outcome.details[0] if outcome.details else ():
        mean, low, high = t_interval([details[name] for details in outcome.details])
        lines.append(f"    {name:<56} {mean:>11.5g}  ({low:.5g} to {high:.5g})")
    return "\n".join(lines)


def _measured(outcome: Outcome) -> str:
    if outcome.before is None or outcome.after is None or outcome.interval is None:
        return "not on this machine"
    low, high = outcome.interval
    return (
        f"{_arms(outcome.before, outcome.after)}, 95 % interval of the gain {low:+.1f} to {high:+.1f} "
        f"over {len(outcome.seeds)} seeds"
    )


def _arms(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "no figure; met by any gain that is told from none"
    relative = f", {100 * (after / before - 1):+.0f} %" if before else ""
    return f"{before:6.1f} → {after:6.1f}  ({after - before:+.1f} points{relative})"

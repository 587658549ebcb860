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
    """One claim as it lies in claims.json; `gain` is measured after − before with its 95 % interval over seeds."""

    title: str
    unit: str
    claimed_before: float
    claimed_after: float
    claimed_gain: float
    before: float
    after: float
    gain: float
    interval: tuple[float, float]
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
    interval = t_interval([measurement.gain for measurement in found])
    return Outcome(
        title=claim.title, unit=claim.unit, claimed_before=claim.before, claimed_after=claim.after,
        claimed_gain=claim.gain, before=statistics.fmean(m.before for m in found),
        after=statistics.fmean(m.after for m in found), gain=interval.mean, interval=(interval.low, interval.high),
        verdict=judge(claim.gain, interval), seeds=seeds, quick=quick, limits=claim.limits,
        details=[m.details for m in found], seconds=time.monotonic() - started, date=today(), hardware=hardware(),
        commit=commit(Path(__file__).parent),
    )  # fmt: skip


def keep(path: Path, outcomes: dict[int, Outcome]) -> None:
    """Merge into the results file; claims that were not run now keep their last outcome."""
    kept: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    kept |= {str(number): outcome.model_dump() for number, outcome in outcomes.items()}
    ordered = dict(sorted(kept.items(), key=lambda item: int(item[0])))
    write_atomic(path, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def describe(number: int, outcome: Outcome) -> str:
    """Claimed beside measured, in points and relative."""
    low, high = outcome.interval
    lines = [
        f"claim {number}: {outcome.title} [{outcome.unit}]",
        f"  claimed   {_arms(outcome.claimed_before, outcome.claimed_after)}",
        f"  measured  {_arms(outcome.before, outcome.after)}, 95 % interval of the gain {low:+.1f} to {high:+.1f} "
        f"over {len(outcome.seeds)} seeds",
        f"  verdict   {outcome.verdict}{' (quick size)' if outcome.quick else ''}, {outcome.seconds:.0f} s",
    ]
    return "\n".join([*lines, f"  limits    {outcome.limits}"] if outcome.limits else lines)


def _arms(before: float, after: float) -> str:
    relative = f", {100 * (after / before - 1):+.0f} %" if before else ""
    return f"{before:6.1f} → {after:6.1f}  ({after - before:+.1f} points{relative})"

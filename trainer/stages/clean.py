"""Clean: read sources, apply the rules in order, write what is left, and account for every drop."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from trainer.artifacts import Run, new_folder, write_jsonl
from trainer.data.rules import PersonalData, RuleEngine, default_rules
from trainer.data.sources import Skipped, Source, open_sources
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.spec import CleanSpec, Record

_REPORT_EVERY = 500  # records
_MEGABYTE = 1_000_000
_SKIP_EXAMPLES = 3


def run(spec: CleanSpec, run: Run) -> None:
    with stoppable():
        sources = open_sources(spec)
        engine = RuleEngine(default_rules(spec.rules), spec.seed)
        skipped = _SkipCounts()
        characters: dict[str, Counter[str]] = {"domains": Counter(), "sources": Counter(), "languages": Counter()}
        with new_folder(run.folder.artifacts / "documents") as folder:
            for number, source in enumerate(sources):
                run.progress(number, len(sources), f"reading {source.name}")
                records = _counted(_cleaned(source, spec, engine, skipped, run), characters)
                kept = write_jsonl(folder / f"part-{number:03d}.jsonl", records)
                run.log(f"{source.name}: {kept} documents kept")
            if engine.kept == 0:
                raise ValueError(
                    f"no document is left of {engine.read} read ({engine.summary()}; {skipped.summary()}); "
                    "loosen the rules or give more text"
                )
        run.progress(len(sources), len(sources), "done")
        run.log(f"kept {engine.kept} of {engine.read} documents; dropped: {engine.summary()}; {skipped.summary()}")
        run.folder.write_result(_result(engine, skipped, characters))


class _SkipCounts:
    """What could not be read, by reason, with the first few places of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, str]]] = {}

    def add(self, skipped: Skipped) -> None:
        self.counts[skipped.reason] += 1
        examples = self.examples.setdefault(skipped.reason, [])
        if len(examples) < _SKIP_EXAMPLES:
            examples.append({"where": skipped.where, "detail": skipped.detail})

    def summary(self) -> str:
        return "skipped: " + (", ".join(f"{reason}: {count}" for reason, count in self.counts.items()) or "nothing")


def _cleaned(source: Source, spec: CleanSpec, engine: RuleEngine, skipped: _SkipCounts, run: Run) -> Iterator[Record]:
    """What the rules leave of a source, of which at most `max_megabytes` are read."""
    left = spec.max_megabytes * _MEGABYTE
    for index, record in enumerate(found for unit in source.units for found in unit.read()):
        if index % _REPORT_EVERY == 0:
            stop_if_asked(run)
        if isinstance(record, Skipped):
            skipped.add(record)
            continue
        left -= len(record.text.encode())
        if left < 0:
            return
        kept = engine.apply(record)
        if kept is not None:
            yield kept


def _counted(records: Iterator[Record], characters: dict[str, Counter[str]]) -> Iterator[Record]:
    for record in records:
        characters["domains"][record.domain] += len(record.text)
        characters["sources"][record.source] += len(record.text)
        characters["languages"][record.language] += len(record.text)
        yield record


def _result(engine: RuleEngine, skipped: _SkipCounts, characters: dict[str, Counter[str]]) -> dict[str, Any]:
    total = characters["domains"].total()
    return {
        "documents": {"read": engine.read, "kept": engine.kept},
        "skipped": dict(skipped.counts),
        "skipped_examples": skipped.examples,
        "dropped": engine.dropped,
        "scrubbed": {
            kind: n for rule in engine.rules if isinstance(rule, PersonalData) for kind, n in rule.scrubbed.items()
        },
        "examples": engine.examples,
        "characters": total,
        "shares": {domain: round(count / total, 4) for domain, count in characters["domains"].items()},
        "sources": dict(characters["sources"]),
        "languages": dict(characters["languages"].most_common()),
    }

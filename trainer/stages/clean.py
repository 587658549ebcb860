"""Clean: read sources, apply the rules in order, write what is left, and account for every drop."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from trainer.artifacts import Run, new_folder, write_jsonl
from trainer.data.dedup import ExactDuplicate, NearDuplicate
from trainer.data.rules import Rule, RuleEngine, default_rules
from trainer.data.sources import Source, open_sources
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.spec import CleanSpec, Record

_REPORT_EVERY = 500  # records
_MEGABYTE = 1_000_000


def run(spec: CleanSpec, run: Run) -> None:
    with stoppable():
        sources = open_sources(spec.folders, spec.python_installation)
        duplicates: list[Rule] = [ExactDuplicate(), NearDuplicate(spec.rules.near_duplicate_jaccard)]
        engine = RuleEngine([*default_rules(spec.rules), *duplicates], spec.seed)
        characters: dict[str, Counter[str]] = {"domains": Counter(), "sources": Counter(), "languages": Counter()}
        with new_folder(run.folder.artifacts / "documents") as folder:
            for number, source in enumerate(sources):
                run.progress(number, len(sources), f"reading {source.name}")
                records = _counted(_cleaned(source, spec, engine, run), characters)
                kept = write_jsonl(folder / f"part-{number:03d}.jsonl", records)
                run.log(f"{source.name}: {kept} documents kept")
            if engine.kept == 0:
                raise ValueError(
                    f"no document is left of {engine.read} read ({engine.summary()}); "
                    "loosen the rules or give more text"
                )
        run.progress(len(sources), len(sources), "done")
        run.log(f"kept {engine.kept} of {engine.read} documents; dropped: {engine.summary()}")
        run.folder.write_result(_result(engine, characters))


def _cleaned(source: Source, spec: CleanSpec, engine: RuleEngine, run: Run) -> Iterator[Record]:
    """What the rules leave of a source, of which at most `max_megabytes` are read."""
    left = spec.max_megabytes * _MEGABYTE
    for index, record in enumerate(source.read()):
        if index % _REPORT_EVERY == 0:
            stop_if_asked(run)
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


def _result(engine: RuleEngine, characters: dict[str, Counter[str]]) -> dict[str, Any]:
    total = characters["domains"].total()
    return {
        "documents": {"read": engine.read, "kept": engine.kept},
        "dropped": engine.dropped,
        "scrubbed": dict(engine.scrubbed),
        "examples": engine.examples,
        "characters": total,
        "shares": {domain: round(count / total, 4) for domain, count in characters["domains"].items()},
        "sources": dict(characters["sources"]),
        "languages": dict(characters["languages"].most_common()),
    }

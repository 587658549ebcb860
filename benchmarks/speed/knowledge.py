"""python -m benchmarks.speed.knowledge --data FOLDER: how fast a knowledge store is built and asked.

Documents are the English, LaTeX and multilingual texts of the data pack and Python's standard library. Kept are
megabytes, passages and triples a second of building, the store's size and the process's largest memory, and the median
and worst time of a search of three words, of the neighbours of an entity, and of opening the store.
"""

import argparse
import json
import resource
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.machine import commit, hardware, today
from benchmarks.quality.data import add_data_option, rows
from trainer.artifacts import write_atomic
from trainer.data.knowledge import KnowledgeStore, build
from trainer.data.knowledge.words import terms
from trainer.spec import Record

RESULTS = Path(__file__).parent.parent / "results" / "knowledge.json"
TEXTS = ("text_en", "latex_science", "text_multilingual")
QUESTIONS = 300


def documents(data: Path) -> Iterator[Record]:
    for name in TEXTS:
        for row in rows(data, name):
            yield Record(id=row["id"], text=row["text"], source=name, domain="general", language=row["lang"])
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if "site-packages" not in path.parts and "test" not in path.parts:
            text, place = path.read_text(encoding="utf-8", errors="replace"), str(path.relative_to(library))
            meta = {"path": place}
            yield Record(id=place, text=text, source="stdlib", domain="code", language="python", meta=meta)


def milliseconds(actions: list[Callable[[], object]]) -> dict[str, float]:
    seconds = []
    for action in actions:
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return {"median": round(1e3 * statistics.median(seconds), 3), "worst": round(1e3 * max(seconds), 3)}


def measure(records: list[Record], folder: Path) -> dict[str, Any]:
    began = time.perf_counter()
    counts = build(records, folder)
    seconds = time.perf_counter() - began
    megabytes = sum(len(record.text.encode()) for record in records) / 1e6
    store = KnowledgeStore.open(folder)
    rng = Random(0)
    words = [terms(record.text[:2_000]) or ["nothing"] for record in rng.choices(records, k=QUESTIONS)]
    queries = [" ".join(rng.choices(found, k=3)) for found in words]
    entities = [entity for query in queries[:50] for entity in store.entities(query, 3)]
    return {
        "documents": counts.documents,
        "megabytes": round(megabytes, 1),
        "passages": counts.passages,
        "triples": counts.triples,
        "build seconds": round(seconds, 2),
        "megabytes a second": round(megabytes / seconds, 2),
        "triples a second": round(counts.triples / seconds),
        "store megabytes": round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1),
        "largest memory, megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "search, ms": milliseconds([partial(store.search, query, 10) for query in queries]),
        "neighbours, ms": milliseconds([partial(store.neighbours, entity) for entity in entities]),
        "open, ms": milliseconds([partial(KnowledgeStore.open, folder)] * 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.knowledge")
    add_data_option(parser)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(list(documents(parsed.data)), Path(folder))
    for name, value in found.items():
        print(f"{name:<28} {value}")
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), "figures": found}
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()

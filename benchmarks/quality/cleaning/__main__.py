"""python -m benchmarks.quality.cleaning --data FOLDER: do the cleaning rules reach what is asked of them?"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, hardware, today
from benchmarks.quality.cleaning import duplicates, languages, toxicity
from benchmarks.quality.cleaning.bars import line
from benchmarks.quality.data import add_data_option
from trainer.artifacts import write_atomic

RESULTS = Path(__file__).parents[2] / "results" / "cleaning_quality.json"
PARTS = {"languages": languages.measure, "duplicates": duplicates.measure, "toxicity": toxicity.measure}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.cleaning")
    add_data_option(parser)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    bars: list[dict[str, Any]] = []
    described: dict[str, Any] = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent)}
    for name, measure in PARTS.items():
        began = time.perf_counter()
        found, judged = measure(parsed.data)
        described[name] = found | {"seconds": round(time.perf_counter() - began, 1)}
        bars += judged
        print(*map(line, judged), summary(name, found), sep="\n")
    write_atomic(parsed.results, json.dumps(described | {"bars": bars}, indent=1, ensure_ascii=False) + "\n")


def summary(name: str, found: dict[str, Any]) -> str:
    """What the bars do not say."""
    if name == "languages":
        lowest = {way: min(figures["by language"].items(), key=lambda item: item[1]) for way, figures in found.items()}
        return "        " + "; ".join(f"lowest of {way}: {lang} {value}" for way, (lang, value) in lowest.items())
    if name == "duplicates":
        ranges = found["merged by true Jaccard"].items()
        merged = ", ".join(f"{name}: {count['merged']}/{count['copies']}" for name, count in ranges)
        return f"        copies merged by true Jaccard: {merged}"
    mentions = ", ".join(
        f"{kind} {figures['hits']}/{figures['n']}" for kind, figures in found["mentions dropped"].items()
    )
    return f"        macro-F1 {found['macro-F1']} {found['F1']}; mentions dropped: {mentions}"


if __name__ == "__main__":
    main()

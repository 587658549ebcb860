"""python -m benchmarks.speed.tokenize --data FOLDER: MB/s of a tokenize job, how full its rows are, and its memory.

The text of the folder and of the Python library, copied until there is enough of it, goes through one tokenize job, in
processes of its own, whose memory is looked at five times a second. Encoding alone is then compared, in turns and in
one process, with the library's own `encode_batch` of the same texts and tokenizer.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import tokenizers

from benchmarks.corpus import library_records, new_job, pack_records, write_inputs
from benchmarks.machine import commit, hardware, today
from trainer.artifacts import RunFolder, write_atomic
from trainer.data.pieces import document_pieces
from trainer.data.tokenizer import Tokenizer
from trainer.spec import Record

RESULTS = Path(__file__).parent.parent / "results" / "tokenize.json"
ROUNDS = 3
MEGABYTE = 1_000_000
LOOK_EVERY_S = 0.2


def run_job(folder: RunFolder) -> dict[str, Any]:
    """Seconds, and megabytes of resident memory: of the largest process, and of all together at one time.

    Raises:
        ValueError: the job failed.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "trainer", "run", str(folder.path)]
    largest = together = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            found = resident(process.pid)
            largest, together = max([largest, *found]), max(together, sum(found))
            time.sleep(LOOK_EVERY_S)
    if process.returncode:
        raise ValueError(f"the job failed: {folder.status()}")
    return {
        "seconds": time.perf_counter() - started,
        "largest process, MB": largest,
        "all processes, MB": together,
    }


def resident(pid: int) -> list[float]:
    """Resident megabytes of a process and of those that it started; none once it has ended."""
    found = []
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            found.append(process.memory_info().rss / MEGABYTE)
    except psutil.NoSuchProcess:
        pass
    return found


def encoding(folder: RunFolder, records: list[Record]) -> dict[str, float]:
    """MB/s of encoding, medians of rounds in turn."""
    ours = Tokenizer.load(folder.artifact("tokenizer"))
    plain = tokenizers.Tokenizer.from_file(str(folder.artifact("tokenizer") / "tokenizer.json"))
    texts = [record.text for record in records]
    actions: dict[str, Callable[[], object]] = {
        "tokenizers' encode_batch": lambda: plain.encode_batch(texts),
        "encode_batch, safe from forged tokens": lambda: ours.encode_batch(texts),
        "documents with their structure labels": lambda: list(document_pieces(ours, records)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - started)
    size = sum(len(text.encode()) for text in texts) / MEGABYTE
    return {name: round(size / statistics.median(found), 2) for name, found in seconds.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.tokenize")
    default = os.environ.get("OCTAVO_DATA")
    parser.add_argument("--data", type=Path, default=default, required=default is None, help="or OCTAVO_DATA")
    parser.add_argument("--megabytes", type=int, default=200, help="of text, in millions of characters")
    parser.add_argument("--context", type=int, default=2_048)
    parser.add_argument("--vocab-size", type=int, default=16_384)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        inputs = write_inputs(Path(home), parsed.data, parsed.megabytes * MEGABYTE)
        settings = {"vocab_size": parsed.vocab_size, "context": parsed.context, "max_tokens": 10**9}
        folder = new_job(Path(home) / "tokenize", inputs, **settings)
        job = run_job(folder)
        result = folder.result()
        packed = {source: result[source]["train"] for source in ("text", "completion", "dialogue")}
        tokens = sum(report["tokens"] for report in packed.values())
        job |= {"tokens": tokens, "tokens/s": round(tokens / job["seconds"])}
        some = [*islice(pack_records(parsed.data), 0, None, 20), *islice(library_records(), 0, None, 20)]
        compared = encoding(folder, some)
    fill = {source: report["fill"] for source, report in packed.items()}
    for name, value in {**job, **{f"fill, {source}": share for source, share in fill.items()}, **compared}.items():
        print(f"{name:<42}{value:>16,.4g}" if isinstance(value, float) else f"{name:<42}{value:>16,}")
    described = {
        "date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent),
        "millions of characters": parsed.megabytes, "context": parsed.context, "vocab_size": parsed.vocab_size,
        "job": job, "fill": fill, "MB/s, one process": compared,
    }  # fmt: skip
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()

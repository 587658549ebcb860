"""python -m benchmarks.speed.sandbox --data FOLDER: the sandbox on the reference solutions of real tasks.

FOLDER holds files `code_*.jsonl` or `code_*.jsonl.gz` of rows with `id`, `solution`, `setup` and `tests`, like MBPP's.
Every reference solution has to pass all its tests, and none that of another task. Timed on one core.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import commit, hardware, today
from trainer.artifacts import write_atomic
from trainer.rewards.sandbox import Sandbox, Task, require_isolation, share_passed

RESULTS = Path(__file__).parent.parent / "results" / "sandbox.json"


def read_tasks(folder: Path) -> dict[str, Task]:
    tasks = {}
    for path in sorted([*folder.glob("code_*.jsonl"), *folder.glob("code_*.jsonl.gz")]):
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for row in map(json.loads, lines):
                tasks[f"{path.name}:{row['id']}"] = Task(row["solution"], row["setup"], row["tests"])
    if not tasks:
        raise ValueError(f"{folder} holds no code_*.jsonl or code_*.jsonl.gz with tasks: name the folder of such files")
    return tasks


def milliseconds(work: Callable[[], object], times: int) -> float:
    """Median over runs in turn, which what else the machine does disturbs least."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def plain_start() -> None:
    """What a sandbox that starts a Python for every program could not do without."""
    subprocess.run([sys.executable, "-I", "-S", "-c", "print(1)"], stdout=subprocess.DEVNULL, check=True)


def open_and_close() -> None:
    with Sandbox():
        pass


@contextmanager
def one_core() -> Iterator[None]:
    """This process, and those that it starts within, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def measure(tasks: dict[str, Task], sandbox: Sandbox) -> dict[str, Any]:
    start = time.perf_counter()
    shares = {name: share_passed(*task, sandbox=sandbox) for name, task in tasks.items()}
    seconds = time.perf_counter() - start
    again = iter(tasks.values())
    solutions = [task.solution for task in tasks.values()]
    swapped = [
        share_passed(other, task.setup, task.tests, sandbox=sandbox)
        for other, task in zip([*solutions[1:], solutions[0]], tasks.values(), strict=True)
    ]
    return {
        "tasks": len(tasks),
        "passed": sum(share == 1 for share in shares.values()),
        "not passed": [name for name, share in shares.items() if share < 1],
        "passed by the next task's solution": sum(share == 1 for share in swapped),
        "tasks per second": len(tasks) / seconds,
        "programs per second": 2 * len(tasks) / seconds,  # the solution's and the judge's
        "milliseconds": {
            "one task": milliseconds(lambda: share_passed(*next(again), sandbox=sandbox), len(tasks)),
            "one program": milliseconds(lambda: sandbox.run("print(1)"), 300),
            "python -I -S, not isolated": milliseconds(plain_start, 30),
            "opening and closing a sandbox": milliseconds(open_and_close, 10),
        },
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.sandbox")
    parser.add_argument("--data", type=Path, required=True, help="a folder of code_*.jsonl(.gz) files")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    tasks = read_tasks(parsed.data)
    isolation = require_isolation()
    with one_core(), Sandbox(isolation=isolation) as sandbox:
        found = measure(tasks, sandbox)
    described = {
        "date": today(),
        "hardware": hardware(),
        "commit": commit(Path(__file__).parent),
        "isolation": isolation.name,
        **found,
    }
    print(json.dumps(described, indent=1))
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")
    return 0 if found["passed"] == found["tasks"] else 1


if __name__ == "__main__":
    sys.exit(main())

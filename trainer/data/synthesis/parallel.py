"""Generate over several processes; the problems are the same for any number of them.

What one family gives for one split does not depend on the others, so that is the unit of work. Each writes a file; the
files are then merged in the order that was asked for.
"""

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from copy import copy
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import IO

from trainer.artifacts import write_jsonl
from trainer.data.synthesis.generate import Generator, Split
from trainer.data.synthesis.sampling import Cell

LARGE = 4_000  # problems from which on starting processes pays
Plan = Mapping[Split, Sequence[Cell]]


@dataclass(frozen=True)
class Unit:
    """The problems of one family for one split."""

    split: Split
    family: str
    levels: tuple[int, ...]
    path: Path


@dataclass(frozen=True)
class Account:
    """What a unit's generator counted."""

    problems: int
    rejected: Counter[str]
    mistakes: Counter[str]


def units(plan: Plan, folder: Path) -> list[Unit]:
    """One unit a split and family, those with most problems first."""
    levels: dict[tuple[Split, str], list[int]] = {}
    for split, cells in plan.items():
        for family, level in cells:
            levels.setdefault((split, family), []).append(level)
    found = [
        Unit(split, family, tuple(own), folder / f"{split}-{family}.jsonl") for (split, family), own in levels.items()
    ]
    return sorted(found, key=lambda unit: -len(unit.levels))


def generate(settings: Generator, work: Sequence[Unit], processes: int | None) -> Iterator[Account]:
    """Do all units, in no certain order, and yield what each counted.

    Raises:
        ValueError: a family has too few different problems, naming it.
    """
    total = sum(len(unit.levels) for unit in work)
    processes = min(processes or (len(os.sched_getaffinity(0)) if total >= LARGE else 1), len(work))
    if processes <= 1:
        yield from (_do(settings, unit) for unit in work)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent)
    try:
        waiting: set[Future[Account]] = {pool.submit(_do, settings, unit) for unit in work}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise ValueError("a process that generated problems was killed; is the machine out of memory?") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _do(settings: Generator, unit: Unit) -> Account:
    generator = copy(settings)
    generator.rejected, generator.mistakes = Counter(), Counter()
    count = write_jsonl(unit.path, generator.of_family(unit.family, unit.split, iter(unit.levels)))
    return Account(count, generator.rejected, generator.mistakes)


def _end_with_parent() -> None:
    """A killed job leaves no process behind."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a process that another one started"

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def merged(cells: Sequence[Cell], split: Split, folder: Path) -> Iterator[str]:
    """The lines of a split's files in the order of its cells."""
    files: dict[str, IO[str]] = {}
    try:
        for family, _ in cells:
            if family not in files:
                files[family] = open(folder / f"{split}-{family}.jsonl", encoding="utf-8")  # noqa: SIM115
            yield files[family].readline()
    finally:
        for file in files.values():
            file.close()

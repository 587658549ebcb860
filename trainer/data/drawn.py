"""Which rows each step of a training drew: the order of draws, and the record of it. Imports no torch.

A run leaves `artifacts/drawn.jsonl`, a line a step: {"step": as in metrics.jsonl, "phase", "draws": {source: [first,
count]}}. Draws of a source are numbered through the whole run; `row_of_draw` says which row each of them is.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.artifacts import RunFolder, rewind_lines

DRAWN = "drawn.jsonl"


@lru_cache(maxsize=8)  # of the few sources of one run, the epoch that is drawn from and the one before
def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch draws all rows of a source."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def row_of_draw(draw: int, rows: int, seed: int) -> int:
    """The row of a source of so many rows that is drawn after `draw` others."""
    epoch, position = divmod(draw, rows)
    return int(epoch_order(rows, seed, epoch)[position])


class DrawRecord:
    """What a run writes. Whatever an earlier attempt wrote of steps that are taken again is forgotten."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.artifacts / DRAWN
        self._begun = False

    def add(self, step: int, phase: str, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        """A step that was taken; `step` counts from 1, as metrics do.

        Args:
            before, after: how many rows of each source had been drawn before the step and after it.
        """
        if not self._begun:
            rewind_lines(self._path, step - 1)
            self._begun = True
        draws = {
            name: [int(before[name]), int(after[name] - before[name])] for name in after if after[name] > before[name]
        }
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "phase": phase, "draws": draws}) + "\n")


def steps_that_drew(path: Path, source: str, row: int, rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """{"phase", "step"} of each draw of a row, in order.

    Args:
        path: the record. Lines that a crash cut off are left out.
    """
    place_of_epoch: dict[int, int] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            drawn = json.loads(line)
            first, count = drawn["draws"].get(source, (0, 0))
            for epoch in range(first // rows, (first + count - 1) // rows + 1) if count else ():
                if epoch not in place_of_epoch:
                    place_of_epoch[epoch] = int(np.flatnonzero(epoch_order(rows, seed, epoch) == row)[0])
                if first <= epoch * rows + place_of_epoch[epoch] < first + count:
                    yield {"phase": drawn["phase"], "step": drawn["step"]}

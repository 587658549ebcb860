"""Which families and levels problems are drawn from: evenly, or more where a network is weak."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice

from pydantic import BaseModel

Cell = tuple[str, int]  # a family at a level


class Judged(BaseModel):
    """What is read of a line of an evaluate job's answers."""

    family: str
    level: int
    correct: bool


def evenly(levels: Mapping[str, Sequence[int]], count: int) -> list[Cell]:
    """The families in turn, and the levels of each in turn."""
    turns = {family: cycle(own) for family, own in levels.items()}
    return [(family, next(turns[family])) for family in islice(cycle(turns), count)]


def weaknesses(cells: Iterable[Cell], answers: Iterable[Judged]) -> dict[Cell, float]:
    """1 − (right + 1)/(n + 2) of each cell, Laplace's estimate: 1/2 where nothing was asked."""
    asked, right = Counter[Cell](), Counter[Cell]()
    for answer in answers:
        cell = answer.family, answer.level
        asked[cell] += 1
        right[cell] += answer.correct
    return {cell: 1 - (right[cell] + 1) / (asked[cell] + 2) for cell in cells}


def shares(weakness: Mapping[Cell, float], floor: float) -> dict[Cell, float]:
    """p(c) = floor/|cells| + (1 − floor)·w(c)/Σw: in proportion to weakness, but never less than an even share of the
    floor."""
    total = sum(weakness.values())
    return {cell: floor / len(weakness) + (1 - floor) * value / total for cell, value in weakness.items()}


def in_proportion(share: Mapping[Cell, float], count: int) -> list[Cell]:
    """So many cells, each as often as its share says (to less than one), spread over the whole order."""
    wanted = {cell: value * count for cell, value in share.items()}
    counts = {cell: int(number) for cell, number in wanted.items()}
    by_rest = sorted(wanted, key=lambda cell: (counts[cell] - wanted[cell], cell))
    for cell in by_rest[: count - sum(counts.values())]:
        counts[cell] += 1
    places = [((turn + 0.5) / number, cell) for cell, number in counts.items() for turn in range(number)]
    return [cell for _, cell in sorted(places)]

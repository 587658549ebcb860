"""What a family is, and where each registers itself under its own name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

from trainer.data.synthesis.working import Written


class Question(Protocol):
    """One problem before it is solved; `wordings` ask the same and `condition` is what the answer has to satisfy."""

    @property
    def wordings(self) -> tuple[str, ...]: ...

    @property
    def condition(self) -> str: ...

    @property
    def kept_condition(self) -> str:
        """What a `Problem` says of it; empty where the working can be checked without."""
        ...

    def solution(self) -> Written: ...

    def wrong(self, rng: Random) -> Iterator[tuple[str, Written]]:
        """Typed mistakes, each with what was written."""
        ...

    def solution_fault(self, solution: str) -> str | None: ...

    def distractor_fault(self, wrong: Written) -> str | None: ...


Draw = Callable[[Random, int], Question]


@dataclass(frozen=True)
class Family:
    name: str
    subject: str
    draw: Draw
    levels: tuple[int, ...]


FAMILIES: dict[str, Family] = {}


def family(subject: str, levels: tuple[int, ...] = (1, 2, 3, 4, 5)) -> Callable[[Draw], Draw]:
    """Register a drawing function under its own name."""

    def register(draw: Draw) -> Draw:
        FAMILIES[draw.__name__] = Family(draw.__name__, subject, draw, levels)
        return draw

    return register

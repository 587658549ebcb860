"""What an experiment is: a figure of the article, and a function that measures it for one seed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["met", "not met", "not measurable at this size"]


@dataclass(frozen=True)
class Measurement:
    """What one seed gave: the two arms in the claim's unit, and anything worth keeping beside them.

    Without the arms this machine cannot measure the claimed figure; the details still stand.
    """

    before: float | None
    after: float | None
    details: dict[str, float] = field(default_factory=dict)

    @property
    def gain(self) -> float | None:
        return None if self.before is None or self.after is None else self.after - self.before


@dataclass(frozen=True)
class Claim:
    """One numbered claim. `before` and `after` are what the article says, in `unit`; without them it gives no figure
    that could be measured here, and any gain meets it.

    `measure(seed, quick)` runs both arms for one seed; `quick` asks for the smallest size that still means something.
    `limits` says in a sentence what the experiment does not show.
    """

    number: int
    title: str
    unit: str
    measure: Callable[[int, bool], Measurement]
    before: float | None = None
    after: float | None = None
    limits: str = ""

    @property
    def gain(self) -> float:
        return 0.0 if self.before is None or self.after is None else self.after - self.before

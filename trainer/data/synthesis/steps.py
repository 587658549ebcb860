"""What a solver writes down: one formula a step, rightly or with one typed mistake.

A family's solver is a function of a `Trace`. It runs once for the solution and once for each mistake: where a mistake
can be made it asks `trace.pick(right, sign_slip=wrong)`, and everything after follows from what was picked. A slip of
arithmetic can be made in any calculation of any family.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from random import Random
from typing import TypeVar

from trainer.data.synthesis import expression
from trainer.data.synthesis.check import solution_fault
from trainer.data.synthesis.conditions import answer_fault
from trainer.data.synthesis.working import Written, closing
from trainer.data.tokenizer import END_THINK, THINK

Picked = TypeVar("Picked")
SLIPS = (-2, -1, 1, 2, 10)  # by which a calculation goes wrong


class CannotGoOn(Exception):
    """After this mistake nobody would go on."""


@dataclass
class Trace:
    """The steps so far. `mistake` is the one to make, '' for none; `slip` says in which calculation, and by how much,
    the arithmetic goes wrong."""

    mistake: str = ""
    slip: tuple[int, int] = (-1, 0)
    steps: list[str] = field(default_factory=list)
    calculations: int = 0

    def pick(self, right: Picked, **wrong: Picked) -> Picked:
        return wrong.get(self.mistake, right)

    def say(self, step: str) -> None:
        self.steps.append(step)

    def calculate(self, formula: str, name: str = "") -> Fraction:
        """Write `name = formula = value` and return the value; a plain number is not written twice.

        Raises:
            CannotGoOn: it has no value, after a mistake.
        """
        try:
            found = expression.number(formula)
        except expression.Unreadable as error:
            if self.mistake or self.slip[1]:
                raise CannotGoOn from error
            raise
        if self.calculations == self.slip[0]:
            found += self.slip[1]
        self.calculations += 1
        parts = [part for part in (name, formula, str(found)) if part]
        if len(parts) > 1 and parts[-1] == parts[-2]:
            parts.pop()
        if len(parts) > 1:
            self.steps.append(" = ".join(parts))
        return found


Solve = Callable[[Trace], str]  # writes steps, returns the answer


@dataclass(frozen=True)
class Exercise:
    """One problem before it is solved. `wordings` ask the same; `condition` is what the answer has to satisfy
    (see `conditions`), and holds every number of the wordings."""

    wordings: tuple[str, ...]
    condition: str
    solve: Solve
    mistakes: tuple[str, ...]

    @property
    def kept_condition(self) -> str:
        return self.condition

    def solution(self) -> Written:
        return self._written(Trace())

    def solution_fault(self, solution: str) -> str | None:
        found = solution_fault(solution, self.condition)
        return found and found.reason

    def distractor_fault(self, wrong: Written) -> str | None:
        """Why a wrong solution cannot serve as one: its answer is right, or cannot be read."""
        found = answer_fault(wrong.answer, self.condition)
        return "right_answer" if found is None else None if found == "wrong_answer" else found

    def wrong(self, rng: Random) -> Iterator[tuple[str, Written]]:
        """Each typed mistake and one slip of arithmetic, where they can be made."""
        right = Trace()
        self._written(right)
        traces = [Trace(mistake) for mistake in self.mistakes]
        if right.calculations:
            traces.append(Trace("arithmetic_slip", (rng.randrange(right.calculations), rng.choice(SLIPS))))
        for trace in traces:
            try:
                yield trace.mistake, self._written(trace)
            except CannotGoOn:
                continue

    def _written(self, trace: Trace) -> Written:
        answer = self.solve(trace)
        return Written(f"{THINK}{'; '.join(trace.steps)}.{END_THINK}{closing(answer)}", answer)

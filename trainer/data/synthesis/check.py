"""Read a written solution back and decide whether it is true: every step, the answer, and that it was arrived at.

A step is a chain such as `2x = 11 - 3 = 8`. It is true when its sides are the same for every value of the names in
them, or are so for the answer: an equation on the way to it. A side that is a new name defines it for later steps.
Nothing here shares code with the solvers that write.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from trainer.data.synthesis import conditions, expression
from trainer.data.synthesis.conditions import answer_fault
from trainer.data.synthesis.expression import Names, Unreadable, Value

_SOLUTION = re.compile(r"<think>(.+)</think>The answer is (.+)\.", re.DOTALL)
_STEP_ENDS = re.compile(r";\s+|\n+|\.\s+|\.$")
_RELATION = re.compile(r"(<=|>=|<|>|=)")
_NAME = re.compile(r"[A-Za-z]\d?")


class Fault(NamedTuple):
    """Why something is not accepted, a name that is counted by; and the part of it that is at fault."""

    reason: str
    where: str = ""


def solution_fault(text: str, condition: str) -> Fault | None:
    """Why a worked solution of `condition` is not accepted, or None."""
    found = _SOLUTION.fullmatch(text)
    if found is None:
        return Fault("unreadable_solution")
    steps = [step for step in _STEP_ENDS.split(found[1]) if step.strip()]
    return steps_fault(steps, found[2], condition)


def steps_fault(steps: Sequence[str], answer: str, condition: str) -> Fault | None:
    """The same for steps and answer by themselves."""
    wrong = answer_fault(answer, condition)
    if wrong is not None:
        return Fault(wrong, answer)
    if not steps:
        return Fault("no_steps")
    reader = _Reader(conditions.bindings(answer, condition))
    for step in steps:
        try:
            if not reader.holds(step):
                return Fault("false_step", step)
        except Unreadable:
            return Fault("unreadable_step", step)
    derived = all(any(expression.same(part, seen) for seen in reader.seen) for part in conditions.parts(answer))
    return None if derived else Fault("not_derived", answer)


class _Reader:
    """Goes through the steps of one solution; `seen` are the values that a chain arrived at."""

    def __init__(self, answers: Sequence[Names]) -> None:
        self.answers = answers
        self.defined: dict[str, ast.expr] = {}
        self.seen: list[Value] = []

    def holds(self, step: str) -> bool:
        """Raises: Unreadable: the step is no chain of formulas."""
        first, *rest = _RELATION.split(expression.plain(step))
        if not rest:
            raise Unreadable(f"'{step}' relates nothing")
        self._define(first.strip(), rest)
        pairs = list(_pairs([first, *rest]))
        if any(operator != "=" for _, operator, _ in pairs):
            return all(self._related(pair, {}) for pair in pairs)
        if not all(self._related(pair, {}) for pair in pairs) and not any(
            all(self._related(pair, names) for pair in pairs) for names in self.answers
        ):
            return False
        self.seen.append(expression.value(rest[-1], self.defined))
        return True

    def _define(self, name: str, rest: Sequence[str]) -> None:
        known = name in self.defined or name in expression.VARIABLES
        if _NAME.fullmatch(name) and not known and rest[0] == "=":
            meaning = expression.read(rest[1].strip())
            if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(meaning)):
                raise Unreadable(f"'{name}' is defined by itself")
            self.defined[name] = meaning

    def _related(self, pair: tuple[str, str, str], names: Names) -> bool:
        left, operator, right = pair
        known = {**self.defined, **names}
        return conditions.compares(
            expression.value(left.strip(), known), operator, expression.value(right.strip(), known)
        )


def _pairs(chain: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for place in range(0, len(chain) - 2, 2):
        yield chain[place], chain[place + 1], chain[place + 2]

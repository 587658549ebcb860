"""Write a plan of additions, subtractions and products down digit by digit: one procedure for all families.

347 + 285 becomes "347+285: 7+5=12, write 2 carry 1. 4+8+1=13, write 3 carry 1. 3+2+1=6, write 6 carry 0." A
difference borrows instead ("13-5=8, write 8 borrow 1."), a product has one digit on the right. The result of an
operation is the head of the next, so that it is written once more in reading order.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from trainer.data.tokenizer import END_THINK, THINK

Operator = Literal["+", "-", "*"]
CLOSING = "The answer is"


@dataclass(frozen=True)
class Operation:
    """A node of a plan; leaves are non-negative integers. The right side of a product has one digit."""

    operator: Operator
    left: "Plan"
    right: "Plan"


Plan = int | Operation
SlipKind = Literal["dropped_carry", "off_by_one"]


@dataclass(frozen=True)
class Slip:
    """A mistake in one column of the working; columns are counted from 0 through all operations."""

    kind: SlipKind
    column: int


@dataclass(frozen=True)
class Worked:
    """What was written: `steps`, the result, and which columns handed a carry on."""

    steps: str
    result: int
    carries: tuple[bool, ...]

    @property
    def written(self) -> "Written":
        return Written(f"{THINK}{self.steps}{END_THINK}{closing(str(self.result))}", str(self.result))


class Written(NamedTuple):
    """A whole solution: the working in `<think>…</think>`, then the closing sentence; and the answer by itself."""

    solution: str
    answer: str


def closing(answer: str) -> str:
    return f"{CLOSING} {answer}."


def add(left: Plan, right: Plan) -> Operation:
    return Operation("+", left, right)


def subtract(left: Plan, right: Plan) -> Operation:
    return Operation("-", left, right)


def multiply(left: Plan, digit: int) -> Operation:
    return Operation("*", left, digit)


def work(plan: Plan, slip: Slip | None = None) -> Worked | None:
    """Work a plan out, operation by operation from the inside; None where a difference would be negative or a plan
    has nothing to do."""
    writer = _Writer(slip)
    result = writer.value(plan)
    if result is None or not writer.sentences:
        return None
    return Worked(" ".join(writer.sentences), result, tuple(writer.carries))


class _Writer:
    def __init__(self, slip: Slip | None) -> None:
        self.slip = slip
        self.sentences: list[str] = []
        self.carries: list[bool] = []

    def value(self, plan: Plan) -> int | None:
        if isinstance(plan, int):
            return plan
        left, right = self.value(plan.left), self.value(plan.right)
        if left is None or right is None or (plan.operator == "-" and left < right):
            return None
        return self.columns(plan.operator, left, right)

    def columns(self, operator: Operator, left: int, right: int) -> int:
        """One operation, one sentence a column from the units up; the first carries the head."""
        assert operator != "*" or right < 10, "a product works with one digit on the right"
        width = max(len(str(left)), 1 if operator == "*" else len(str(right)))
        carry, result, head = 0, 0, f"{left}{operator}{right}: "
        for place in range(width):
            upper = left // 10**place % 10
            lower = right if operator == "*" else right // 10**place % 10
            digit, carry, sentence = self.column(operator, upper, lower, carry if place else None)
            result += digit * 10**place
            self.sentences.append(head + sentence)
            head = ""
        return result if operator == "-" else result + carry * 10**width

    def column(self, operator: Operator, upper: int, lower: int, carried: int | None) -> tuple[int, int, str]:
        """Digit, carry and sentence of one column; `carried` is None in the first, which has no carry to take in."""
        sign = "-" if operator == "-" else "+"
        taken = carried or 0
        if operator == "-" and upper - lower - taken < 0:
            upper += 10
        here = len(self.carries)
        value = {"+": upper + lower + taken, "-": upper - lower - taken, "*": upper * lower + taken}[operator]
        if self.slip == Slip("off_by_one", here):
            value += 1 if value % 10 < 9 else -1
        carry = int(upper > 9) if operator == "-" else value // 10
        self.carries.append(carry > 0)
        if self.slip == Slip("dropped_carry", here):
            carry = 0
        tail = "" if carried is None else f"{sign}{taken}"
        word = "borrow" if operator == "-" else "carry"
        return value % 10, carry, f"{upper}{operator}{lower}{tail}={value}, write {value % 10} {word} {carry}."

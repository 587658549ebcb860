"""Arithmetic and the algebra and geometry that comes down to it, worked out digit by digit: what is asked, what
equation the answer solves, how to work it out, and which wrong plans people follow.

Level 1 has two-digit numbers and each level one digit more; families whose working takes two operations stay with
two digits at level 2 so that a solution keeps to about 90 tokens.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import ClassVar

from trainer.data.synthesis import verify
from trainer.data.synthesis.families.registry import family
from trainer.data.synthesis.working import Plan, Slip, Worked, Written, add, multiply, subtract, work


@dataclass(frozen=True)
class Sum:
    """A question worked out digit by digit; `equation` is linear in x, the answer."""

    wordings: tuple[str, ...]
    equation: str
    plan: Plan
    wrong_plans: Mapping[str, Plan] = field(default_factory=dict)
    kept_condition: ClassVar[str] = ""  # its working names all that it works with

    @property
    def condition(self) -> str:
        return self.equation

    def solution(self) -> Written:
        return self._worked().written

    def wrong(self, rng: Random) -> Iterator[tuple[str, Written]]:
        """Every wrong plan and a slip of each kind."""
        worked = {mistake: work(plan) for mistake, plan in self.wrong_plans.items()}
        worked |= {slip.kind: work(self.plan, slip) for slip in _slips(self._worked(), rng)}
        for mistake, found in worked.items():
            if found is not None:
                yield mistake, found.written

    def solution_fault(self, solution: str) -> str | None:
        return verify.solution_fault(solution, self.equation)

    def distractor_fault(self, wrong: Written) -> str | None:
        return verify.distractor_fault(wrong.solution, self.equation)

    def _worked(self) -> Worked:
        worked = work(self.plan)
        assert worked is not None, f"this plan cannot be worked out: {self.plan}"
        return worked


def _slips(worked: Worked, rng: Random) -> Iterator[Slip]:
    yield Slip("off_by_one", rng.randrange(len(worked.carries)))
    carrying = [column for column, carried in enumerate(worked.carries) if carried]
    if carrying:
        yield Slip("dropped_carry", rng.choice(carrying))


POLYGONS = {4: "square", 5: "regular pentagon", 6: "regular hexagon", 7: "regular heptagon", 8: "regular octagon"}


def _number(rng: Random, digits: int) -> int:
    return rng.randrange(10 ** (digits - 1), 10**digits)


def _ordered(rng: Random, digits: int) -> tuple[int, int]:
    """Two different numbers of at most `digits` digits, the larger first and with all of them."""
    large = rng.randrange(10 ** (digits - 1) + 10, 10**digits)
    return large, rng.randrange(10, large)


def _addends(rng: Random, level: int, count: int) -> list[int]:
    """Numbers whose sum has as many digits as each of them: two at levels 1 and 2, then one more a level."""
    digits = max(2, level)
    low, high = 10 ** (digits - 1), 10**digits if level > 1 else 50
    while True:
        drawn = [rng.randrange(low, high) for _ in range(count)]
        if sum(drawn[:2]) < 10**digits:
            return drawn


@family("arithmetic")
def addition(rng: Random, level: int) -> Sum:
    a, b = _number(rng, level + 1), _number(rng, level + 1)
    return Sum(
        (f"What is {a} + {b}?", f"Compute {a} + {b}.", f"Add {a} and {b}.", f"Find the sum of {a} and {b}."),
        f"x = {a} + {b}",
        add(a, b),
        {"wrong_operation": subtract(max(a, b), min(a, b))},
    )


@family("arithmetic")
def subtraction(rng: Random, level: int) -> Sum:
    a, b = _ordered(rng, level + 1)
    return Sum(
        (f"What is {a} - {b}?", f"Compute {a} - {b}.", f"Subtract {b} from {a}.", f"Find {a} minus {b}."),
        f"x = {a} - {b}",
        subtract(a, b),
        {"wrong_operation": add(a, b)},
    )


@family("arithmetic")
def multiplication(rng: Random, level: int) -> Sum:
    a, d = _number(rng, level + 1), rng.randrange(2, 10)
    return Sum(
        (f"What is {a} * {d}?", f"Compute {a} * {d}.", f"Multiply {a} by {d}.", f"Find the product of {a} and {d}."),
        f"x = {a}*{d}",
        multiply(a, d),
        {"wrong_operation": add(a, d)},
    )


@family("arithmetic")
def sum_of_three(rng: Random, level: int) -> Sum:
    a, b, c = _addends(rng, level, 3)
    return Sum(
        (f"What is {a} + {b} + {c}?", f"Compute {a} + {b} + {c}.", f"Add {a}, {b} and {c}."),
        f"x = {a} + {b} + {c}",
        add(add(a, b), c),
        {"dropped_term": add(a, b), "sign_slip": subtract(add(a, b), c)},
    )


@family("algebra")
def missing_addend(rng: Random, level: int) -> Sum:
    total, a = _ordered(rng, level + 1)
    return Sum(
        (f"Solve x + {a} = {total}.", f"Solve {a} + x = {total}.", f"Find x if x + {a} = {total}."),
        f"x + {a} = {total}",
        subtract(total, a),
        {"sign_slip": add(total, a)},
    )


@family("algebra")
def missing_minuend(rng: Random, level: int) -> Sum:
    a, b = _number(rng, level + 1), _number(rng, level + 1)
    return Sum(
        (f"Solve x - {a} = {b}.", f"Find x if x - {a} = {b}.", f"Which x gives x - {a} = {b}?"),
        f"x - {a} = {b}",
        add(b, a),
        {"sign_slip": subtract(max(a, b), min(a, b))},
    )


@family("algebra")
def missing_subtrahend(rng: Random, level: int) -> Sum:
    a, b = _ordered(rng, level + 1)
    return Sum(
        (f"Solve {a} - x = {b}.", f"Find x if {a} - x = {b}.", f"Which x gives {a} - x = {b}?"),
        f"{a} - x = {b}",
        subtract(a, b),
        {"sign_slip": add(a, b)},
    )


@family("algebra")
def linear_value(rng: Random, level: int) -> Sum:
    """a + b*x at a small x."""
    a, b, at = _number(rng, max(2, level)), rng.randrange(2, 10), rng.randrange(2, 10)
    return Sum(
        (
            f"Evaluate {a} + {b}x at x = {at}.",
            f"Find {a} + {b}x for x = {at}.",
            f"What is {a} + {b}x if x = {at}?",
            f"Let x = {at}. Compute {a} + {b}x.",
        ),
        f"x = {a} + {b}*{at}",
        add(multiply(b, at), a),
        {"wrong_operation": add(add(b, at), a), "dropped_term": multiply(b, at)},
    )


@family("algebra")
def next_term(rng: Random, level: int) -> Sum:
    """The term after three of an arithmetic sequence."""
    digits = max(2, level)
    step = rng.randrange(2, 30) if digits == 2 else _number(rng, digits - 1)
    first = rng.randrange(10 ** (digits - 1), 10**digits - 2 * step)
    second, third = first + step, first + 2 * step
    terms = f"{first}, {second}, {third}"
    return Sum(
        (f"What comes next: {terms}?", f"Continue the sequence {terms}.", f"Find the next term of {terms}."),
        f"x - {third} = {second} - {first}",
        add(third, subtract(second, first)),
        {"wrong_formula": add(third, first), "sign_slip": subtract(third, subtract(second, first))},
    )


@family("geometry")
def rectangle_perimeter(rng: Random, level: int) -> Sum:
    a, b = _addends(rng, level, 2)
    return Sum(
        (
            f"Find the perimeter of a rectangle with sides {a} and {b}.",
            f"A rectangle has sides {a} and {b}. Find its perimeter.",
            f"What is the perimeter of a {a} by {b} rectangle?",
        ),
        f"x/2 = {a} + {b}",
        multiply(add(a, b), 2),
        {"wrong_formula": add(a, b), "dropped_term": add(multiply(a, 2), b)},
    )


@family("geometry")
def triangle_perimeter(rng: Random, level: int) -> Sum:
    while True:
        a, b, c = _addends(rng, level, 3)
        if 2 * max(a, b, c) < a + b + c:  # the triangle inequality
            break
    return Sum(
        (
            f"Find the perimeter of a triangle with sides {a}, {b} and {c}.",
            f"A triangle has sides {a}, {b} and {c}. Find its perimeter.",
            f"What is the perimeter of a triangle with sides {a}, {b}, {c}?",
        ),
        f"x - {a} - {b} - {c} = 0",
        add(add(a, b), c),
        {"dropped_term": add(a, b), "wrong_formula": multiply(add(add(a, b), c), 2)},
    )


@family("geometry", levels=(2, 3, 4, 5))
def polygon_perimeter(rng: Random, level: int) -> Sum:
    """Equal sides: one product. The number of sides hides in the name. Two-digit sides would give too few problems."""
    side, count = _number(rng, level + 1), rng.choice(sorted(POLYGONS))
    name = POLYGONS[count]
    return Sum(
        (
            f"Find the perimeter of a {name} of side {side}.",
            f"A {name} has side {side}. Find its perimeter.",
            f"What is the perimeter of a {name} of side {side}?",
        ),
        f"x/{count} = {side}",
        multiply(side, count),
        {"wrong_formula": multiply(side, count + 1), "wrong_operation": add(side, count)},
    )


@family("geometry", levels=(1, 2))
def exterior_angle(rng: Random, level: int) -> Sum:
    """An exterior angle of a triangle is the sum of the two opposite inner ones."""
    while True:
        a, b = rng.randrange(10, 60 if level == 1 else 160), rng.randrange(10, 60 if level == 1 else 160)
        if a + b < 180:
            break
    return Sum(
        (
            f"Find the exterior angle opposite to {a} and {b}.",
            f"What is the exterior angle opposite to {a} and {b}?",
            f"Angles {a} and {b}: find the opposite exterior angle.",
        ),
        f"180 - x = 180 - {a} - {b}",
        add(a, b),
        {"wrong_formula": subtract(180, add(a, b)), "sign_slip": subtract(max(a, b), min(a, b))},
    )


@family("geometry", levels=(3, 4, 5))
def third_angle(rng: Random, level: int) -> Sum:
    """180 - (a + b); its three-digit difference makes the working too long for levels 1 and 2."""
    while True:
        a, b = rng.randrange(10, 40 * level), rng.randrange(10, 40 * level)
        if a + b < 180:
            break
    return Sum(
        (
            f"Two angles of a triangle are {a} and {b}. Find the third angle.",
            f"A triangle has angles {a} and {b}. What is the third angle?",
            f"Find the third angle of a triangle with angles {a} and {b}.",
        ),
        f"x + {a} + {b} = 180",
        subtract(180, add(a, b)),
        {"wrong_formula": add(a, b), "sign_slip": add(180, add(a, b))},
    )

"""Is an answer right? Decided from the text of the question by numbers alone: substitution, enumeration, quadrature.

Nothing here is shared with the platform's generator or verifier: the question is read by its own patterns, values are
Python's floats, integers and fractions, and where a formula would do another way is gone. A family without a check
here is an error, so that none is overlooked.
"""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import count, pairwise
from typing import Any

import numpy as np

Number = Any  # int, Fraction or float
Check = Callable[[str, str], bool]
CHECKS: dict[str, Check] = {}
_CLOSE = 1e-7
_POINTS = (0.37, -0.81, 1.13)
_FRACTIONS = (Fraction(3, 8), Fraction(-5, 6), Fraction(8, 7))
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)  # exact up to degree 15
_SIDES = {"square": 4, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8}
_MATH = {"sqrt": math.sqrt, "sin": math.sin, "cos": math.cos, "pi": math.pi, "Q": Fraction, "__builtins__": {}}


def is_right(family: str, prompt: str, answer: str) -> bool:
    """Raises: ValueError: there is no check for the family, or the question does not look as expected."""
    if family not in CHECKS:
        raise ValueError(f"family '{family}' has no independent check; add one")
    try:
        return CHECKS[family](prompt, answer)
    except ZeroDivisionError:
        return False


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


# -- reading ---------------------------------------------------------------------------------------------------------


def python(text: str) -> str:
    """A formula of a question or an answer in Python's notation, whole numbers as fractions."""
    text = re.sub(r"\\sqrt\{(\d+)\}", r"sqrt(\1)", text.replace("^", "**")).replace("\\", "")
    text = re.sub(r"(?<![A-Za-z*\d])(\d+)(?![\d(])", r"Q(\1)", text)
    text = re.sub(r"(?<=[\dx)])\s*(?=[A-Za-z(])", "*", text)
    return text.replace("Q*(", "Q(")


def at(text: str, **names: Number) -> Number:
    return eval(python(text.strip()), _MATH | names)  # our own generator's formulas


def numbers(text: str) -> list[Fraction]:
    return [Fraction(found) for found in re.findall(r"-?\d+(?:/\d+)?", text)]


def found(pattern: str, text: str) -> "re.Match[str]":
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"'{text}' does not look like a question of its family")
    return match


def close(left: Number, right: Number) -> bool:
    if isinstance(left, (int, Fraction)) and isinstance(right, (int, Fraction)):
        return left == right
    return abs(float(left) - float(right)) <= _CLOSE * max(1.0, abs(float(left)), abs(float(right)))


def pair(answer: str) -> tuple[Number, Number]:
    match = found(r"^\((.+), (.+)\)$", answer)
    return at(match[1]), at(match[2])


def equals(value: Callable[[str], Number]) -> Callable[[str, str], bool]:
    """A check of a number: what the question comes to, against the answer."""
    return lambda prompt, answer: "\\{" not in answer and "," not in answer and close(value(prompt), at(answer))


def number_family(name: str) -> Callable[[Callable[[str], Number]], Callable[[str], Number]]:
    def register(value: Callable[[str], Number]) -> Callable[[str], Number]:
        CHECKS[name] = equals(value)
        return value

    return register


# -- arithmetic ------------------------------------------------------------------------------------------------------

for _name in ("addition", "sum_of_three", "triangle_perimeter", "exterior_angle"):
    CHECKS[_name] = equals(lambda prompt: sum(map(abs, numbers(prompt))))
CHECKS["subtraction"] = equals(lambda prompt: max(numbers(prompt)) - min(map(abs, numbers(prompt))))
CHECKS["multiplication"] = equals(lambda prompt: math.prod(numbers(prompt)))
CHECKS["rectangle_perimeter"] = equals(lambda prompt: sum(2 * side for side in numbers(prompt)))
CHECKS["third_angle"] = equals(lambda prompt: 180 - sum(numbers(prompt)))
CHECKS["next_term"] = equals(lambda prompt: 2 * numbers(prompt)[2] - numbers(prompt)[1])
CHECKS["polygon_perimeter"] = equals(
    lambda prompt: numbers(prompt)[0] * next(sides for name, sides in _SIDES.items() if name in prompt)
)


@number_family("linear_value")
def _linear_value(prompt: str) -> Number:
    a, b = found(r"(\d+) \+ (\d+)x", prompt).groups()
    return int(a) + sum(int(b) for _ in range(int(found(r"x = (\d+)", prompt)[1])))


# -- algebra ---------------------------------------------------------------------------------------------------------


@check
def linear_equation(prompt: str, answer: str) -> bool:
    left, right = found(r"((?:-|\d|x)[-0-9x+ ]*) = ([-0-9x+ ]*[0-9x])", prompt).groups()
    left = re.sub(r"^x(?= -?\d*x)", "", left)  # the x of "Find x"
    return "," not in answer and close(at(left, x=at(answer)), at(right, x=at(answer)))


for _name in ("missing_addend", "missing_minuend", "missing_subtrahend"):
    CHECKS[_name] = linear_equation


@check
def linear_system(prompt: str, answer: str) -> bool:
    x, y = pair(answer)
    equations = re.findall(r"(-?\d*x [-+] \d*y) = (-?\d+)", prompt)
    return len(equations) == 2 and all(
        close(at(left.replace("y", "*y").replace(" *y", " y"), x=x, y=y), int(right)) for left, right in equations
    )


@check
def quadratic_roots(prompt: str, answer: str) -> bool:
    formula = found(r"(x\^2[-0-9x+ ]*) = 0", prompt)[1]
    roots = [at(root) for root in answer.removeprefix("\\{").removesuffix("\\}").split(", ")]
    low, middle, high = (at(formula, x=x) for x in (-1, 0, 1))
    b, c = (high - low) / 2, middle
    wanted = 1 if b * b == 4 * c else 2
    different = len({round(float(root), 6) for root in roots})
    return len(roots) == different == wanted and all(close(at(formula, x=root), 0) for root in roots)


@check
def linear_inequality(prompt: str, answer: str) -> bool:
    """Points in and out of the interval, and its border, against the relation."""
    left, sign, right = found(r"(-?\d*x [-+] \d+) (<=|>=|<|>) (-?\d+)", prompt).groups()
    opening, low, high, closing = found(r"^([(\[])(.+), (.+)([)\]])$", answer).groups()
    upwards = high == "\\infty"
    border = at(low if upwards else high)
    inside = {-1: not upwards, 0: (opening if upwards else closing) in "[]", 1: upwards}
    compare: dict[str, Callable[[Number, Number], bool]] = {
        "<": lambda a, b: a < b, ">": lambda a, b: a > b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b,
    }  # fmt: skip
    return all(
        compare[sign](at(left, x=border + Fraction(side, 1000)), int(right)) == belongs
        for side, belongs in inside.items()
    )


@number_family("product_coefficient")
def _product_coefficient(prompt: str) -> Number:
    """The slope at 0 of a polynomial of degree 3 at most, by differences."""
    product = found(r"\(([-0-9x^+ ]+)\)\(([-0-9x^+ ]+)\)", prompt)
    value = {x: at(product[1], x=Fraction(x)) * at(product[2], x=Fraction(x)) for x in (-2, -1, 1, 2)}
    return (value[-2] - 8 * value[-1] + 8 * value[1] - value[2]) / 12


@number_family("polynomial_remainder")
def _polynomial_remainder(prompt: str) -> Number:
    divisor = found(r"x ([-+]) (\d+)(?!.*x [-+] \d)", prompt)
    dividend = found(r"(-?\d*x\^\d[-0-9x^+ ]*?)(?: divided| is|\.| by| leave)", prompt)[1]
    return at(dividend, x=Fraction(int(divisor[2]) * (1 if divisor[1] == "-" else -1)))


@check
def parabola_vertex(prompt: str, answer: str) -> bool:
    x, y = pair(answer)
    formula = found(r"y = ([-0-9x^+ ]+[0-9x])", prompt)[1]
    left, middle, right = (at(formula, x=x + step) for step in (-1, 0, 1))
    return close(middle, y) and close(left, right)


@number_family("arithmetic_series")
def _arithmetic_series(prompt: str) -> Number:
    values = [int(value) for value in numbers(prompt)]
    if prompt.startswith("An arithmetic"):
        first, step, terms = values
    else:
        terms, first, step = values
    return sum(first + step * turn for turn in range(terms))


@number_family("unit_rate")
def _unit_rate(prompt: str) -> Number:
    first, second, wanted = numbers(prompt)
    many, price = (second, first) if prompt.startswith("Tom") else (first, second)
    return sum(price / many for _ in range(int(wanted)))


@number_family("change_left")
def _change_left(prompt: str) -> Number:
    left, a, p, b, q = numbers(prompt)
    for many, price in ((a, p), (b, q)):
        for _ in range(int(many)):
            left -= price
    return left


# -- calculus --------------------------------------------------------------------------------------------------------


def slope(formula: str, x: Number) -> Number:
    """Richardson's extrapolation of central differences: in fractions where the formula can be."""
    step = Fraction(1, 10**6) if isinstance(x, Fraction) else 1e-3
    wide, narrow = ((at(formula, x=x + h) - at(formula, x=x - h)) / (2 * h) for h in (2 * step, step))
    return (4 * narrow - wide) / 3


def alike(left: Number, right: Number) -> bool:
    """To what differences can tell: of fractions much, of floats less."""
    exact = isinstance(left, Fraction) and isinstance(right, (int, Fraction))
    return bool(abs(left - right) <= (1e-6 if exact else 1e-5 * max(1.0, abs(left), abs(right))))


def _derivative(prompt: str, answer: str) -> bool:
    formula = found(
        r"(?:Differentiate|f\(x\) =|derivative of(?! f\()|y =) (.+?)(?: with respect|\?$|\.(?: |$))", prompt
    )[1]
    points = _POINTS if "\\" in formula else _FRACTIONS
    return "C" not in answer and all(alike(slope(formula, x), at(answer, x=x)) for x in points)


for _name in ("polynomial_derivative", "chain_rule", "product_rule"):
    CHECKS[_name] = _derivative


@check
def tangent_slope(prompt: str, answer: str) -> bool:
    place = int(found(r"x = (-?\d+)", prompt)[1])
    formula = found(r"(?:y =|of) ([-0-9x^+ ]*x[-0-9x^+ ]*?)(?: at x| where|\.$|\?$)", prompt)[1]
    return alike(slope(formula, Fraction(place)), at(answer))


@check
def antiderivative(prompt: str, answer: str) -> bool:
    formula = found(r"(?:of|Integrate|derivative) ([-0-9x^+ ]*x[-0-9x^+ ]*?)(?: with|\?|\.)", prompt)[1]
    fixed = answer.replace("C", "(0)")
    constant = answer.endswith(" + C") and answer.count("C") == 1
    return constant and all(alike(slope(fixed, x), at(formula, x=x)) for x in _FRACTIONS)


@check
def definite_integral(prompt: str, answer: str) -> bool:
    formula = found(r"(?:of|Integrate) ([-0-9x^+ ]*x[-0-9x^+ ]*?)(?: from| between|\.$|\?$)", prompt)[1]
    low, high = map(int, found(r"(?:from|between) (?:x = )?(-?\d+) (?:to|and) (?:x = )?(-?\d+)", prompt).groups())
    points = (high - low) / 2 * _NODES + (high + low) / 2
    total = (high - low) / 2 * sum(w * float(at(formula, x=float(x))) for w, x in zip(_WEIGHTS, points, strict=True))
    value = float(at(answer))
    return abs(total - value) <= 1e-10 * max(1.0, abs(total), abs(value))


@check
def limit_of_quotient(prompt: str, answer: str) -> bool:
    above, below = found(r"\(([-0-9x^+ ]+)\)/\((x [-+] \d+)\)", prompt).groups()
    place = int(found(r"(?:approaches|tends to|for x to|close to) (-?\d+)", prompt)[1])
    near = [at(above, x=place + step) / at(below, x=place + step) for step in (Fraction(1, 10**9), Fraction(-1, 10**9))]
    return alike(sum(near) / 2, at(answer))


# -- geometry --------------------------------------------------------------------------------------------------------


def _points(prompt: str) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in re.findall(r"\((-?\d+), (-?\d+)\)", prompt)]


CHECKS["hypotenuse"] = equals(lambda prompt: math.hypot(*map(float, numbers(prompt))))
CHECKS["point_distance"] = equals(lambda prompt: math.dist(*_points(prompt)[:2]))
CHECKS["trapezoid_area"] = equals(lambda prompt: _trapezoid(prompt))  # noqa: PLW0108 (defined below)


def _trapezoid(prompt: str) -> Number:
    """The rectangle on the shorter side and the triangle that is left."""
    values = numbers(prompt)
    height = Fraction(found(r"height (?:is )?(\d+)|(\d+) apart", prompt).group(1) or values[-1])
    sides = [*values]
    sides.remove(height)
    return min(sides) * height + (max(sides) - min(sides)) * height / 2


@check
def midpoint(prompt: str, answer: str) -> bool:
    middle, (first, last) = pair(answer), _points(prompt)
    return all(close(last[i] - middle[i], middle[i] - first[i]) for i in (0, 1))


@number_family("sector_area")
def _sector_area(prompt: str) -> Number:
    degrees, radius = int(found(r"(\d+) degrees", prompt)[1]), int(found(r"radius (\d+)", prompt)[1])
    return sum(math.pi * radius**2 / 360 for _ in range(degrees))


@number_family("solid_volume")
def _solid_volume(prompt: str) -> Number:
    """The integral of the cross-sections over the height."""
    radius = int(found(r"radius (\d+)", prompt)[1])
    height = int(found(r"height (\d+)|(\d+) high", prompt).group(1) or found(r"(\d+) high", prompt)[1])
    heights = height / 2 * (_NODES + 1)
    radii = radius * (1 - heights / height) if "cone" in prompt else np.full(8, radius)
    return float(height / 2 * np.sum(_WEIGHTS * math.pi * radii**2))


@number_family("triangle_area")
def _triangle_area(prompt: str) -> Number:
    """Heron's formula."""
    a, b, c = _points(prompt)
    x, y, z = math.dist(a, b), math.dist(b, c), math.dist(c, a)
    half = (x + y + z) / 2
    return math.sqrt(max(0.0, half * (half - x) * (half - y) * (half - z)))


@number_family("similar_triangles")
def _similar_triangles(prompt: str) -> Number:
    values = numbers(prompt)
    if prompt.startswith(("Two", "A triangle")):
        a, b = values[:2]
        image = values[3] if prompt.startswith("A triangle") else values[2]
    else:
        a, image, b = values
    return b * (image / a)


# -- number theory ---------------------------------------------------------------------------------------------------


def _divides(number: int, divisor: int) -> bool:
    return number % divisor == 0


@number_family("greatest_common_divisor")
def _greatest_common_divisor(prompt: str) -> Number:
    a, b = map(int, numbers(prompt))
    return next(d for d in range(min(a, b), 0, -1) if _divides(a, d) and _divides(b, d))


@number_family("least_common_multiple")
def _least_common_multiple(prompt: str) -> Number:
    a, b = map(int, numbers(prompt))
    return next(a * turn for turn in count(1) if _divides(a * turn, b))


@number_family("modular_power")
def _modular_power(prompt: str) -> Number:
    base, exponent = map(int, found(r"(\d+)\^(\d+)", prompt).groups())
    modulus, value = int(numbers(prompt)[-1]), 1
    for _ in range(exponent):
        value = value * base % modulus
    return value


@number_family("linear_congruence")
def _linear_congruence(prompt: str) -> Number:
    a = int(found(r"(\d+)\*x", prompt)[1])
    b = int(found(r"\*x (?:=|leave) (\d+)", prompt)[1])
    modulus = int(found(r"[Mm]odulo (\d+)|divided by (\d+)", prompt).group(1) or numbers(prompt)[-1])
    return next(x for x in range(modulus) if (a * x - b) % modulus == 0)


@number_family("divisor_count")
def _divisor_count(prompt: str) -> Number:
    number = int(numbers(prompt)[0])
    return sum(_divides(number, divisor) for divisor in range(1, number + 1))


@number_family("from_base")
def _from_base(prompt: str) -> Number:
    digits, base = found(r"(\d+)\D+(\d+)", prompt).groups()
    return sum(int(digit) * int(base) ** place for place, digit in enumerate(reversed(digits)))


# -- probability -----------------------------------------------------------------------------------------------------


@number_family("both_drawn")
def _both_drawn(prompt: str) -> Number:
    wanted, others = map(int, numbers(prompt)[:2])
    draws = 3 if "three" in prompt.lower() else 2
    return Fraction(math.comb(wanted, draws), math.comb(wanted + others, draws))


@number_family("exactly_so_many")
def _exactly_so_many(prompt: str) -> Number:
    """By the distribution of hits after each try."""
    chance = Fraction(found(r"probability (\d+/\d+)", prompt)[1])
    hits, tries = _hits_and_tries(prompt)
    law = [Fraction(1)] + [Fraction(0)] * tries
    for _ in range(tries):
        law = [law[k] * (1 - chance) + (law[k - 1] * chance if k else 0) for k in range(tries + 1)]
    return law[hits]


def _hits_and_tries(prompt: str) -> tuple[int, int]:
    hits = int(found(r"exactly (\d+)", prompt)[1])
    return hits, int(found(r"in (\d+) tries|spin (\d+)|of (\d+) seeds|tried (\d+)", prompt).group().split()[1])


@number_family("at_least_once")
def _at_least_once(prompt: str) -> Number:
    """The first success comes in the first try, or the second, or …"""
    chance = Fraction(found(r"probability (\d+/\d+)", prompt)[1])
    tries = int(found(r"in (\d+) tries|play (\d+)|Of (\d+) parts|tried (\d+)", prompt).group().split()[1])
    return sum(chance * (1 - chance) ** turn for turn in range(tries))


@number_family("expected_value")
def _expected_value(prompt: str) -> Number:
    chances = [Fraction(value) for value in re.findall(r"\d+/\d+|(?<=probability )1\b", prompt)]
    prizes = [int(value) for value in re.findall(r"(?<![\d/])\d+(?![\d/])", prompt)]
    return sum(prize * chance for prize, chance in zip(prizes, chances, strict=False))


@number_family("committee")
def _committee(prompt: str) -> Number:
    a, b, c, d = map(int, numbers(prompt))
    (j, of_a), (k, of_b) = ((min(a, b), max(a, b)), (min(c, d), max(c, d)))
    return _ways(of_a, j) * _ways(of_b, k)


def _ways(total: int, chosen: int) -> int:
    """Pascal's triangle."""
    row = [1]
    for _ in range(total):
        row = [1, *(left + right for left, right in pairwise(row)), 1]
    return row[chosen]


@number_family("positive_test")
def _positive_test(prompt: str) -> Number:
    """Of a crowd that all three chances divide."""
    rare, hit, false = (Fraction(value) for value in re.findall(r"\d+/\d+", prompt))
    crowd = rare.denominator * hit.denominator * false.denominator
    true_alarms, false_alarms = crowd * rare * hit, crowd * (1 - rare) * false
    return true_alarms / (true_alarms + false_alarms)

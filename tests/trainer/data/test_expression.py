"""Formulas as text: read, valued and compared; and nothing that is written can hang the reader."""

import time
from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.synthesis.conditions import answer_fault, solution
from trainer.data.synthesis.expression import Unreadable, as_expression, number, same, value

fractions = st.fractions(min_value=-50, max_value=50, max_denominator=12)
coefficients = st.lists(st.integers(-9, 9), min_size=1, max_size=4)


@settings(deadline=None)
@given(fractions, fractions, fractions)
def test_numbers_have_their_value(a: Fraction, b: Fraction, c: Fraction) -> None:
    assert number(f"({a}) + ({b})*({c}) - ({a})^2") == a + b * c - a**2


@settings(deadline=None)
@given(coefficients, coefficients)
def test_polynomials_are_those_of_sympy(a: list[int], b: list[int]) -> None:
    x = sympy.Symbol("x")
    left, right = (" + ".join(f"({c})x^{e}" for e, c in enumerate(terms)) for terms in (a, b))
    f, g = (sum(sympy.Integer(c) * x**e for e, c in enumerate(terms)) for terms in (a, b))
    assert sympy.expand(as_expression(value(f"({left})({right})")) - f * g) == 0
    assert sympy.expand(as_expression(value(f"({left})'")) - sympy.diff(f, x)) == 0
    assert same(value(left), value(right)) == (sympy.expand(f - g) == 0)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("\\sqrt{12}", "2\\sqrt{3}", True),
        ("(1 + \\sqrt{2})^2", "3 + 2\\sqrt{2}", True),
        ("\\sqrt{2}", "1.41421356237", False),
        ("\\frac{3\\pi}{4}", "3\\pi/4", True),
        ("(\\sin(3x + 1))'", "3\\cos(3x + 1)", True),
        ("(x^2\\cos(2x))'", "2x\\cos(2x) + 2x^2\\sin(2x)", False),
        ("(x^2 - 9)/(x - 3)", "x + 3", True),
        ("\\sin(x)^2 + \\cos(x)^2", "1", True),
        ("C(5, 2)*3!", "60", True),
        ("7^13 mod 10", "7", True),
        ("gcd(48, 18) + lcm(4, 6)", "18", True),
        ("(x^3)' - 3x^2", "0", True),
        ("0.25", "1/4", True),
    ],
)
def test_equality(left: str, right: str, equal: bool) -> None:
    assert same(value(left), value(right)) is equal


@pytest.mark.parametrize(
    "text",
    ["", "1 +", "1/0", "__import__('os')", "x.real", "q", "f(1, 2)", "9^9^9", "(((9^80)^80)^80)^80",
     "(x + y + z + f + C)^40", "999999999999!", "C(100000, 50000)", "divisors(10^30)", "inverse(4, 8)", "base(99, 3)",
     "'a'", "lambda: 1", "x if x else y", "9" * 500, "(" * 300, "1e999999999", "tan(pi/2)/0"],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_at_once(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(Unreadable):
        value(text)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("condition", "right", "wrong"),
    [
        ("2x + 3 = 11", ["4", "8/2"], ["5", "-4", "\\{4, 5\\}", "(4, 4)"]),
        ("x + y = 5, x - y = 1", ["(3, 2)"], ["(2, 3)", "3"]),
        ("x^2 - 5x + 6 = 0", ["\\{2, 3\\}", "\\{3, 2\\}"], ["\\{2\\}", "\\{2, 2\\}", "\\{2, 3, 4\\}", "\\{-2, -3\\}"]),
        ("x^2 - 2x - 1 = 0", ["\\{1+\\sqrt{2}, 1-\\sqrt{2}\\}"], ["\\{1+\\sqrt{2}, 1-\\sqrt{3}\\}"]),
        ("x^2 - 4x + 4 = 0", ["\\{2\\}"], ["\\{-2\\}", "\\{2, -2\\}"]),
        ("2x + 3 < 11", ["(-\\infty, 4)"], ["(-\\infty, 4]", "(4, \\infty)", "(-\\infty, 5)", "[-\\infty, 4)"]),
        ("-2x >= 6", ["(-\\infty, -3]"], ["[-3, \\infty)", "(-\\infty, -3)", "(-\\infty, \\infty)"]),
        ("f = (x^3 + 5x)'", ["3x^2 + 5", "5 + 3x^2"], ["3x^2", "x^3 + 5x"]),
        ("f' = 3x^2", ["x^3 + C", "C + x^3"], ["x^3", "x^3 + 1", "x^3 + 2C", "3x^2 + C", "x^3 + C^2"]),
        ("(x^2 + 6x)' = 0, y = x^2 + 6x", ["(-3, -9)"], ["(3, 27)"]),
        ("x = \\sqrt{5^2 + 5^2}", ["5\\sqrt{2}", "\\sqrt{50}"], ["50", "7"]),
    ],
)
def test_answers_against_conditions(condition: str, right: list[str], wrong: list[str]) -> None:
    assert [answer_fault(answer, condition) for answer in right] == [None] * len(right)
    assert all(answer_fault(answer, condition) is not None for answer in wrong)


@pytest.mark.parametrize("condition", ["0x = 3", "x = x", "x + y = 3", "x + y = 1, 2x + 2y = 2", "x^2 = 4"])
def test_a_condition_without_exactly_one_answer_has_no_solution(condition: str) -> None:
    assert solution(condition) is None
    assert answer_fault("2", condition) == "no_unique_answer"

"""How numbers, polynomials and roots are written in prompts, steps and answers."""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, isqrt
from random import Random

Number = int | Fraction


def inner(number: Number) -> str:
    """A number as a part of a formula: in brackets where it has a sign or a bar of its own."""
    text = str(number)
    return text if text.isdigit() else f"({text})"


def signed(number: Number) -> str:
    """A number as a term that follows others: ` + 5`, ` - 5`."""
    return f" {'-' if number < 0 else '+'} {abs(number)}"


def term(coefficient: Number, power: str) -> str:
    """`3x^2`, `x`, `-x^3/2`: a coefficient and a power of a variable (empty: of none)."""
    if not power:
        return str(coefficient)
    fraction = Fraction(coefficient)
    head = {1: "", -1: "-"}.get(fraction.numerator, str(fraction.numerator))
    return f"{head}{power}" + (f"/{fraction.denominator}" if fraction.denominator > 1 else "")


def polynomial(coefficients: Sequence[Number], variable: str = "x") -> str:
    """Coefficients from the constant up, written from the highest power down."""
    terms = [
        term(coefficient, _power(variable, exponent))
        for exponent, coefficient in reversed(list(enumerate(coefficients)))
        if coefficient
    ]
    return joined(terms) or "0"


def joined(terms: Sequence[str]) -> str:
    """Terms, some with a sign of their own, as one sum."""
    text = " + ".join(terms)
    return text.replace("+ -", "- ")


def _power(variable: str, exponent: int) -> str:
    return "" if exponent == 0 else variable if exponent == 1 else f"{variable}^{exponent}"


def root(radicand: int) -> str:
    """The square root of a whole number in lowest terms: `5`, `2\\sqrt{3}`."""
    outside, inside = simplified(radicand)
    if inside == 1:
        return str(outside)
    return f"{'' if outside == 1 else outside}\\sqrt{{{inside}}}"


def simplified(radicand: int) -> tuple[int, int]:
    """(q, d) with q²·d = radicand and d free of squares."""
    outside = next(q for q in range(isqrt(radicand), 0, -1) if radicand % (q * q) == 0)
    return outside, radicand // (outside * outside)


def times_pi(coefficient: Fraction) -> str:
    return term(coefficient, "\\pi")


def other_than_zero(rng: Random, largest: int, smallest: int | None = None) -> int:
    """A whole number between the bounds, by default ±largest, never 0."""
    low = -largest if smallest is None else smallest
    return rng.choice([number for number in range(low, largest + 1) if number])


def coprime(rng: Random, modulus: int) -> int:
    return rng.choice([number for number in range(2, modulus) if gcd(number, modulus) == 1])

"""Derivatives, antiderivatives, integrals and limits."""

from fractions import Fraction
from random import Random

from trainer.data.synthesis.families.registry import family
from trainer.data.synthesis.families.writing import inner, joined, other_than_zero, polynomial, signed, term
from trainer.data.synthesis.steps import Exercise, Solve, Trace

Terms = list[tuple[int, int]]  # coefficient and exponent, the highest first


def _terms(rng: Random, level: int) -> Terms:
    """Two or more powers of x, the last one perhaps a constant."""
    count = 2 if level < 3 else 3
    exponents = sorted(rng.sample(range(0, 3 + level), count), reverse=True)
    if exponents[0] < 2:
        exponents[0] = 2
    return [(other_than_zero(rng, 8 + 2 * level, 1 if level == 1 else None), exponent) for exponent in exponents]


def _written(terms: Terms) -> str:
    coefficients = [0] * (terms[0][1] + 1)
    for coefficient, exponent in terms:
        coefficients[exponent] = coefficient
    return polynomial(coefficients)


def _power(coefficient: int | Fraction, exponent: int) -> str:
    return term(coefficient, "" if exponent == 0 else "x" if exponent == 1 else f"x^{exponent}")


def _to_differentiate(function: str, solve: Solve, mistakes: tuple[str, ...]) -> Exercise:
    wordings = (
        f"Differentiate {function} with respect to x.",
        f"Find the derivative of f(x) = {function}.",
        f"What is the derivative of {function}?",
        f"Let y = {function}. Find dy/dx.",
    )
    return Exercise(wordings, f"f = ({function})'", solve, mistakes)


def _derivative(trace: Trace, terms: Terms) -> str:
    """Term by term, constants left out of the sum."""
    slopes = []
    for coefficient, exponent in terms[: trace.pick(len(terms), dropped_term=max(1, len(terms) - 1))]:
        if exponent:
            lower = trace.pick(exponent - 1, wrong_formula=exponent)
            factor = trace.pick(coefficient * exponent, off_by_one=coefficient * (exponent - 1) or coefficient)
            slopes.append(_power(factor, lower))
            trace.say(f"({_power(coefficient, exponent)})' = {slopes[-1]}")
    return joined(slopes)


@family("calculus")
def polynomial_derivative(rng: Random, level: int) -> Exercise:
    terms = _terms(rng, level)
    function = _written(terms)

    def solve(trace: Trace) -> str:
        answer = _derivative(trace, terms)
        trace.say(f"({function})' = {answer}")
        return answer

    return _to_differentiate(function, solve, ("wrong_formula", "off_by_one", "dropped_term"))


@family("calculus")
def tangent_slope(rng: Random, level: int) -> Exercise:
    terms = _terms(rng, level)[:2] if level < 4 else _terms(rng, level - 1)
    at = other_than_zero(rng, 2 + level // 2, 1 if level == 1 else None)
    function = _written(terms)

    def solve(trace: Trace) -> str:
        if trace.mistake == "wrong_formula":  # the height, not the slope
            parts = [f"{c}*{inner(at)}^{e}" for c, e in terms]
        else:
            slope = _derivative(trace, terms)
            trace.say(f"({function})' = {slope}")
            used = trace.pick(at, sign_slip=-at)
            parts = [f"{c * e}*{inner(used)}^{e - 1}" for c, e in terms if e]
        return str(trace.calculate(joined(parts), "f"))

    wordings = (
        f"Find the slope of the tangent to y = {function} at x = {at}.",
        f"What is the slope of y = {function} where x = {at}?",
        f"At x = {at}, how steep is the curve y = {function}?",
        f"Evaluate the derivative of {function} at x = {at}.",
    )
    return Exercise(wordings, f"f = diff({function}, {at})", solve, ("wrong_formula", "sign_slip"))


_OUTER = ("\\sin", "\\cos", "power")


@family("calculus")
def chain_rule(rng: Random, level: int) -> Exercise:
    """A power of a linear function; from level 3 on also a sine or a cosine of one."""
    a = other_than_zero(rng, 4 + 3 * level, 2 if level == 1 else None)
    a = a if a != 1 else 2
    b, n = other_than_zero(rng, 15 + 5 * level, 1 if level == 1 else None), rng.randint(3, 4 + level)
    kind, linear = (rng.choice(_OUTER) if level > 2 else "power"), polynomial((b, a))
    function = f"({linear})^{n}" if kind == "power" else f"{kind}({linear})"

    def solve(trace: Trace) -> str:
        trace.say(f"({linear})' = {a}")
        factor = trace.pick(Fraction(a), forgotten_chain_rule=Fraction(1), sign_slip=Fraction(-a))
        if kind == "power":
            whole = trace.calculate(f"{n}*{inner(factor)}" if factor != 1 else str(n))
            answer = f"{whole}({linear})^{trace.pick(n - 1, wrong_formula=n)}"
        else:
            inside = trace.pick("\\cos" if kind == "\\sin" else "\\sin", wrong_formula=kind)
            answer = term(-factor if kind == "\\cos" else factor, f"{inside}({linear})")
        trace.say(f"({function})' = {answer}")
        return answer

    return _to_differentiate(function, solve, ("forgotten_chain_rule", "sign_slip", "wrong_formula"))


@family("calculus")
def product_rule(rng: Random, level: int) -> Exercise:
    """cx^n times a sine or a cosine of ax."""
    c, n, a = rng.randint(2, 9 + 3 * level), rng.randint(2, 4 + level), rng.randint(2, 6 + 3 * level)
    name = rng.choice(("sin", "cos"))
    other, sign = ("cos", 1) if name == "sin" else ("sin", -1)
    power, lower = f"{c}x^{n}", _power(c * n, n - 1)
    function = f"{power}\\{name}({a}x)"

    def solve(trace: Trace) -> str:
        trace.say(f"({power})' = {lower}")
        inside = trace.pick(a, forgotten_chain_rule=1)
        outer = term(sign * inside, f"\\{other}({a}x)")
        trace.say(f"(\\{name}({a}x))' = {outer}")
        second = term(trace.pick(1, sign_slip=-1) * sign * c * inside, f"x^{n}\\{other}({a}x)")
        if trace.mistake == "wrong_formula":  # the product of the derivatives
            answer = term(sign * c * n * inside, f"{_power(1, n - 1)}\\{other}({a}x)")
        else:
            answer = joined((f"{lower}\\{name}({a}x)", second)[: trace.pick(2, dropped_term=1)])
        trace.say(f"({function})' = {answer}")
        return answer

    mistakes = ("forgotten_chain_rule", "sign_slip", "wrong_formula", "dropped_term")
    return _to_differentiate(function, solve, mistakes)


@family("calculus")
def antiderivative(rng: Random, level: int) -> Exercise:
    terms = _terms(rng, level)
    if level < 3:  # whole coefficients
        terms = [(coefficient * (exponent + 1), exponent) for coefficient, exponent in terms]
    function = _written(terms)

    def solve(trace: Trace) -> str:
        found = []
        for coefficient, exponent in terms[: trace.pick(len(terms), dropped_term=len(terms) - 1)]:
            over = trace.pick(exponent + 1, wrong_formula=1, off_by_one=max(1, exponent))
            found.append(_power(Fraction(coefficient, over), exponent + 1))
            trace.say(f"({found[-1]})' = {_power(coefficient, exponent)}")
        answer = joined([*found, *trace.pick(["C"], forgotten_constant=[])])
        trace.say(f"f = {answer}")
        return answer

    wordings = (
        f"Find the antiderivative of {function}. Use C for the constant.",
        f"Integrate {function} with respect to x, with the constant C.",
        f"Which functions have the derivative {function}? Use C for the constant.",
        f"What is the indefinite integral of {function}? Write + C.",
    )
    mistakes = ("forgotten_constant", "dropped_term", "wrong_formula", "off_by_one")
    return Exercise(wordings, f"f' = {function}", solve, mistakes)


@family("calculus")
def definite_integral(rng: Random, level: int) -> Exercise:
    terms = _terms(rng, min(level, 3))[: 2 if level < 5 else 3]
    if level < 3:
        terms = [(coefficient * (exponent + 1), exponent) for coefficient, exponent in terms]
    low = rng.randint(0 if level < 4 else -2, 2)
    high, function = low + rng.randint(1, 2 + level // 2), _written(terms)

    def solve(trace: Trace) -> str:
        found = joined([_power(Fraction(coefficient, exponent + 1), exponent + 1) for coefficient, exponent in terms])
        trace.say(f"F = {found}")
        trace.say(f"F' = {function}")
        first, last = trace.pick((low, high), swapped_operands=(high, low))
        top = trace.calculate(_substituted(terms, last), f"F({last})")
        bottom = trace.calculate(_substituted(terms, first), f"F({first})")
        over = trace.pick(f"{top}{signed(-bottom)}", sign_slip=f"{top}{signed(bottom)}", dropped_term=str(top))
        return str(trace.calculate(over, "f"))

    wordings = (
        f"Find the integral of {function} from {low} to {high}.",
        f"Integrate {function} from x = {low} to x = {high}.",
        f"What is the definite integral of {function} between {low} and {high}?",
        f"Evaluate the integral from {low} to {high} of {function}.",
    )
    condition = f"f = integral({function}, {low}, {high})"
    return Exercise(wordings, condition, solve, ("swapped_operands", "sign_slip", "dropped_term"))


def _substituted(terms: Terms, at: int) -> str:
    """The antiderivative at a place, term by term."""
    return joined([f"{inner(Fraction(c, e + 1))}*{inner(at)}^{e + 1}" for c, e in terms])


@family("calculus")
def limit_of_quotient(rng: Random, level: int) -> Exercise:
    """A factor that numerator and denominator share, at its root."""
    largest = 16 + 4 * level
    at, other = rng.sample([k for k in range(1 if level == 1 else -largest, largest + 1) if k], 2)
    factor = other_than_zero(rng, level, 1) if level > 2 else 1
    numerator = polynomial((factor * at * other, -factor * (at + other), factor))
    denominator = polynomial((-at, 1))

    def solve(trace: Trace) -> str:
        rest = polynomial((-factor * other, factor))
        trace.say(f"{numerator} = ({denominator})({rest})")
        if trace.mistake == "wrong_formula":
            return str(trace.calculate(f"{at} - {inner(at)}", "f"))
        put = trace.pick(at, sign_slip=-at)
        last = trace.pick(f"{factor}*{inner(put)}{signed(-factor * other)}", dropped_term=f"{factor}*{inner(put)}")
        return str(trace.calculate(last, "f"))

    quotient = f"({numerator})/({denominator})"
    wordings = (
        f"Find the limit of {quotient} as x approaches {at}.",
        f"What does {quotient} approach as x tends to {at}?",
        f"Compute the limit for x to {at} of {quotient}.",
        f"As x comes close to {at}, to which value does {quotient} come close?",
    )
    condition = f"f = limit({numerator}, {denominator}, {at})"
    return Exercise(wordings, condition, solve, ("wrong_formula", "sign_slip", "dropped_term"))

"""Equations, inequalities, polynomials, series and everyday proportions."""

from fractions import Fraction
from random import Random

from trainer.data.synthesis.families.registry import family
from trainer.data.synthesis.families.writing import (
    inner,
    joined,
    other_than_zero,
    polynomial,
    root,
    signed,
    simplified,
    term,
)
from trainer.data.synthesis.steps import CannotGoOn, Exercise, Trace


@family("algebra")
def linear_equation(rng: Random, level: int) -> Exercise:
    """ax + b = cx + d, with c = 0 at levels 1 and 2 and a fraction for an answer from level 4 on."""
    a, b = rng.randint(2, 5 + 4 * level), other_than_zero(rng, 20 * level, 1 if level == 1 else None)
    c = rng.choice([k for k in range(-9, 10) if k not in (0, a)]) if level > 2 else 0
    d = b + (a - c) * other_than_zero(rng, 10 * level, 1 if level == 1 else None)
    d += rng.randint(1, abs(a - c)) if level > 3 else 0
    equation = f"{polynomial((b, a))} = {polynomial((d, c))}"

    def solve(trace: Trace) -> str:
        slope = trace.calculate(f"{a} - {inner(c)}", "a") if c else Fraction(a)
        moved = trace.pick(f"{d} - {inner(b)}", sign_slip=f"{d} + {inner(b)}", swapped_operands=f"{b} - {inner(d)}")
        rest = trace.calculate(trace.pick(moved, dropped_term=str(d)), term(slope, "x"))
        over = trace.pick(f"{rest}/{inner(slope)}", wrong_operation=f"{rest} - {inner(slope)}")
        return str(trace.calculate(over, "x"))

    wordings = (
        f"Solve {equation}.",
        f"Find x if {equation}.",
        f"Which x satisfies {equation}?",
        f"What is the solution of {equation}?",
    )
    return Exercise(wordings, equation, solve, ("sign_slip", "swapped_operands", "dropped_term", "wrong_operation"))


@family("algebra")
def linear_system(rng: Random, level: int) -> Exercise:
    """Two equations in x and y, by determinants."""
    largest = 2 + 2 * level
    while True:
        a, b, c, d = (other_than_zero(rng, largest, 1 if level == 1 else None) for _ in range(4))
        if a * d != b * c:
            break
    x, y = rng.randint(-largest if level > 1 else 1, largest), rng.randint(-largest if level > 1 else 1, largest)
    p, q = a * x + b * y, c * x + d * y
    first = f"{joined((term(a, 'x'), term(b, 'y')))} = {p}"
    second = f"{joined((term(c, 'x'), term(d, 'y')))} = {q}"

    def solve(trace: Trace) -> str:
        sign = trace.pick("-", sign_slip="+")
        whole = trace.calculate(f"{a}*{inner(d)} {sign} {inner(b)}*{inner(c)}", "D")
        over = inner(trace.pick(whole, dropped_term=Fraction(1)))
        of_x = trace.calculate(f"({p}*{inner(d)} - {inner(b)}*{inner(q)})/{over}", "x")
        of_y = trace.calculate(f"({a}*{inner(q)} - {inner(p)}*{inner(c)})/{over}", "y")
        return "({}, {})".format(*trace.pick((of_x, of_y), swapped_operands=(of_y, of_x)))

    wordings = (
        f"Solve the system {first}, {second} for (x, y).",
        f"Find the pair (x, y) with {first} and {second}.",
        f"Which (x, y) satisfies both {first} and {second}?",
        f"Given {first} and {second}, what is (x, y)?",
    )
    return Exercise(wordings, f"{first}, {second}", solve, ("sign_slip", "swapped_operands", "dropped_term"))


@family("algebra")
def quadratic_roots(rng: Random, level: int) -> Exercise:
    """x^2 + bx + c = 0: whole roots up to level 3, then roots p ± q√d."""
    if level < 4:
        largest = (30, 20, 30)[level - 1]
        r, s = (other_than_zero(rng, largest, 1 if level == 1 else None) for _ in range(2))
        b, c = -(r + s), r * s
    else:
        p, q, d = rng.randint(-20, 20), rng.randint(1, level - 3), rng.choice((2, 3, 5, 6, 7, 10, 11, 13, 14, 15))
        b, c = -2 * p, p * p - q * q * d
    equation = f"{polynomial((c, b, 1))} = 0"

    def solve(trace: Trace) -> str:
        inside = trace.pick(f"{inner(b)}^2 - 4*{inner(c)}", wrong_formula=f"{inner(b)}^2 - {inner(c)}")
        found = trace.calculate(inside, "D")
        if found < 0 or found.denominator > 1:
            raise CannotGoOn
        if found == 0:
            return f"\\{{{trace.calculate(f'{trace.pick(-b, sign_slip=b)}/2', 'x')}\\}}"
        trace.say(f"R = \\sqrt{{{found}}} = {root(int(found))}")
        minus_b = trace.pick(-b, sign_slip=b)
        signs = trace.pick("+-", dropped_term="+")
        return f"\\{{{', '.join(_root(trace, n, minus_b, sign, int(found)) for n, sign in enumerate(signs, 1))}\\}}"

    wordings = (
        f"Find all roots of {equation}.",
        f"Solve {equation}.",
        f"What is the solution set of {equation}?",
        f"For which x is {equation}?",
    )
    return Exercise(wordings, equation, solve, ("wrong_formula", "sign_slip", "dropped_term"))


def _root(trace: Trace, number: int, minus_b: int, sign: str, radicand: int) -> str:
    """(-b ± R)/2 as it is written in lowest terms."""
    outside, inside = simplified(radicand)
    formula = f"({minus_b} {sign} R)/2"
    if inside == 1:
        written = f"({minus_b} {sign} {outside})/2"
        return str(trace.calculate(written, f"x{number} = {formula}"))
    if minus_b % 2 or outside % 2:
        raise CannotGoOn
    half = "" if outside == 2 else str(outside // 2)
    surd = f"{half}\\sqrt{{{inside}}}"
    answer = (f"{minus_b // 2} {sign} {surd}" if minus_b else f"{surd}" if sign == "+" else f"-{surd}").replace(" ", "")
    trace.say(f"x{number} = {formula} = {answer}")
    return answer


@family("algebra")
def linear_inequality(rng: Random, level: int) -> Exercise:
    """ax + b compared with d; a negative from level 2 on, which turns the sign round."""
    a = rng.randint(2, 4 + 3 * level) * (rng.choice((1, -1)) if level > 1 else 1)
    b = other_than_zero(rng, 10 * level, 1 if level == 1 else None)
    d = b + a * rng.randint(-8 if level > 1 else 1, 12) + (rng.randint(0, abs(a)) if level > 3 else 0)
    sign = rng.choice(("<", ">") if level < 3 else ("<", ">", "<=", ">="))
    relation = f"{polynomial((b, a))} {sign} {d}"

    def solve(trace: Trace) -> str:
        moved = trace.pick(f"{d} - {inner(b)}", sign_slip=f"{d} + {inner(b)}")
        rest = trace.calculate(moved, f"{a}x")
        border = trace.calculate(f"{rest}/{inner(a)}", "x")
        upwards = (sign[0] == ">") == (a > 0)
        closed = trace.pick(len(sign) > 1, wrong_border=len(sign) == 1)
        if trace.pick(upwards, swapped_operands=not upwards):
            return f"{'[' if closed else '('}{border}, \\infty)"
        return f"(-\\infty, {border}{']' if closed else ')'}"

    wordings = (
        f"Solve {relation}. Give an interval.",
        f"For which x is {relation}? Give an interval.",
        f"Write the solution of {relation} as an interval.",
        f"Which interval holds all x with {relation}?",
    )
    return Exercise(wordings, relation, solve, ("sign_slip", "swapped_operands", "wrong_border"))


@family("algebra")
def product_coefficient(rng: Random, level: int) -> Exercise:
    """The coefficient of x in a product; the first factor has a square from level 3 on."""
    largest = 5 + 3 * level
    a, b, d, e = (other_than_zero(rng, largest, 1 if level == 1 else None) for _ in range(4))
    square = other_than_zero(rng, largest) if level > 2 else 0
    product = f"({polynomial((b, a, square))})({polynomial((e, d))})"

    def solve(trace: Trace) -> str:
        outer = trace.calculate(f"{a}*{inner(e)}", "p")
        cross = trace.calculate(f"{inner(b)}*{inner(d)}", "q")
        together = trace.pick(
            f"{outer}{signed(cross)}",
            sign_slip=f"{outer}{signed(-cross)}",
            dropped_term=str(outer),
            wrong_formula=f"{a}*{inner(d)}",
        )
        return str(trace.calculate(together, "f"))

    wordings = (
        f"What is the coefficient of x in {product}?",
        f"Expand {product}. Which coefficient does x have?",
        f"Find the coefficient of x in the product {product}.",
        f"When {product} is multiplied out, by which number is x multiplied?",
    )
    condition = f"f = coefficient({product}, 1)"
    return Exercise(wordings, condition, solve, ("sign_slip", "dropped_term", "wrong_formula"))


@family("algebra")
def polynomial_remainder(rng: Random, level: int) -> Exercise:
    """Of a division by x - a: Horner's scheme, one product and one sum a step."""
    degree, largest = 2 if level < 4 else 3, 3 + 2 * level
    coefficients = [other_than_zero(rng, largest, 1 if level == 1 else None) for _ in range(degree + 1)]
    at = other_than_zero(rng, 2 + level, 1 if level == 1 else None)
    dividend, divisor = polynomial(coefficients), polynomial((-at, 1))

    def solve(trace: Trace) -> str:
        used = trace.pick(at, sign_slip=-at)
        value = Fraction(coefficients[-1])
        for coefficient in reversed(coefficients[trace.pick(0, dropped_term=1) : -1]):
            value = trace.calculate(f"{value}*{inner(used)}{signed(coefficient)}")
        return str(value)

    wordings = (
        f"Find the remainder of {dividend} divided by {divisor}.",
        f"What remains when {dividend} is divided by {divisor}?",
        f"Divide {dividend} by {divisor}. What is the remainder?",
        f"By the remainder theorem, what does {dividend} leave modulo {divisor}?",
    )
    return Exercise(wordings, f"f = remainder({dividend}, {divisor})", solve, ("sign_slip", "dropped_term"))


@family("algebra")
def parabola_vertex(rng: Random, level: int) -> Exercise:
    """Of x^2 + bx + c, times a whole number from level 3 on."""
    a = rng.choice((1, -1)) * rng.randint(1, level - 1) if level > 2 else 1
    x, c = other_than_zero(rng, 4 + 3 * level), rng.randint(-10 * level, 10 * level)
    b = -2 * a * x
    parabola = polynomial((c, b, a))

    def solve(trace: Trace) -> str:
        top = trace.pick(-b, sign_slip=b)
        over = trace.pick(f"{top}/(2*{inner(a)})", wrong_formula=f"{top}/{inner(a)}")
        at = trace.calculate(over, "x")
        squared = trace.calculate(f"{a}*{inner(at)}^2", "s")
        linear = trace.calculate(f"{inner(b)}*{inner(at)}", "t")
        last = trace.pick(f"{signed(c)}" if c else "", dropped_term="")
        value = trace.calculate(f"{squared}{signed(linear)}{last}", "y")
        return "({}, {})".format(*trace.pick((at, value), swapped_operands=(value, at)))

    wordings = (
        f"Find the vertex of y = {parabola}.",
        f"At which point (x, y) does the parabola y = {parabola} have its vertex?",
        f"What is the vertex of the parabola y = {parabola}?",
        f"Where does y = {parabola} turn? Give (x, y).",
    )
    condition = f"({parabola})' = 0, y = {parabola}"
    return Exercise(wordings, condition, solve, ("sign_slip", "wrong_formula", "dropped_term", "swapped_operands"))


@family("algebra")
def arithmetic_series(rng: Random, level: int) -> Exercise:
    first, step = rng.randint(1, 10 * level), other_than_zero(rng, 3 + 3 * level, 1 if level < 3 else None)
    count = rng.randint(4, 6 + 6 * level)

    def solve(trace: Trace) -> str:
        steps = trace.pick(f"({count} - 1)", off_by_one=str(count))
        last = trace.calculate(f"{first} + {steps}*{inner(step)}", "L")
        total = trace.pick(
            f"{count}*({first}{signed(last)})/2",
            wrong_formula=f"{count}*({first}{signed(last)})",
            dropped_term=f"{count}*{inner(last)}/2",
        )
        return str(trace.calculate(total, "x"))

    wordings = (
        f"Find the sum of the first {count} terms of the arithmetic sequence with first term {first} and "
        f"difference {step}.",
        f"An arithmetic sequence starts at {first} with difference {step}. What do its first {count} terms add up to?",
        f"Add {count} numbers: the first is {first} and each next one differs by {step}. What is the sum?",
        f"What is the sum of {count} terms that start with {first} and change by {step} each time?",
    )
    condition = f"x = {count}*{first} + C({count}, 2)*{inner(step)}"
    return Exercise(wordings, condition, solve, ("off_by_one", "wrong_formula", "dropped_term"))


_GOODS = ("pencils", "apples", "tickets", "stamps", "notebooks", "eggs")


@family("algebra")
def unit_rate(rng: Random, level: int) -> Exercise:
    """So much for so many: how much for another number? A fraction from level 3 on."""
    count, wanted, goods = rng.randint(2, 6 + 4 * level), rng.randint(2, 10 + 10 * level), rng.choice(_GOODS)
    price = rng.randint(2, 8 + 8 * level) * (count if level < 3 else 1)

    def solve(trace: Trace) -> str:
        each = trace.pick(f"{price}/{count}", swapped_operands=f"{count}/{price}", wrong_operation=f"{price} - {count}")
        one = trace.calculate(each, "u")
        return str(trace.calculate(trace.pick(f"{inner(one)}*{wanted}", dropped_term=str(one)), "x"))

    wordings = (
        f"If {count} {goods} cost {price} dollars, how many dollars do {wanted} {goods} cost?",
        f"A shop sells {count} {goods} for {price} dollars. What is the price of {wanted} of them in dollars?",
        f"Tom paid {price} dollars for {count} {goods}. How much would {wanted} {goods} have cost him?",
        f"The price of {count} {goods} is {price} dollars. At this rate, what do {wanted} cost?",
    )
    mistakes = ("swapped_operands", "wrong_operation", "dropped_term")
    return Exercise(wordings, f"{count}x = {price}*{wanted}", solve, mistakes)


@family("algebra")
def change_left(rng: Random, level: int) -> Exercise:
    """What is left of a note after two purchases."""
    a, b = rng.randint(2, 3 + 2 * level), rng.randint(2, 3 + 2 * level)
    p, q = rng.randint(2, 6 + 4 * level), rng.randint(2, 6 + 4 * level)
    paid = a * p + b * q + rng.randint(1, 10 * level)
    one, other = rng.sample(_GOODS, 2)

    def solve(trace: Trace) -> str:
        first = trace.calculate(trace.pick(f"{a}*{p}", wrong_operation=f"{a} + {p}"), "s")
        second = trace.calculate(f"{b}*{q}", "t")
        spent = trace.calculate(trace.pick(f"{first} + {second}", dropped_term=str(first)), "u")
        return str(trace.calculate(trace.pick(f"{paid} - {spent}", sign_slip=f"{paid} + {spent}"), "x"))

    wordings = (
        f"Ann has {paid} dollars. She buys {a} {one} at {p} dollars each and {b} {other} at {q} dollars each. How many "
        "dollars are left?",
        f"With {paid} dollars you buy {a} {one} for {p} dollars each and {b} {other} for {q} each. How much is left?",
        f"Ben pays with {paid} dollars for {a} {one} costing {p} dollars each and {b} {other} costing {q} each. "
        "How much change does he get?",
        f"From {paid} dollars, {a} {one} at {p} each and {b} {other} at {q} each are paid. How many dollars remain?",
    )
    return Exercise(
        wordings, f"x + {a}*{p} + {b}*{q} = {paid}", solve, ("wrong_operation", "dropped_term", "sign_slip")
    )

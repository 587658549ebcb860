"""Divisors, remainders and other bases."""

from collections.abc import Iterator
from fractions import Fraction
from random import Random

from trainer.data.synthesis.families.registry import family
from trainer.data.synthesis.families.writing import coprime
from trainer.data.synthesis.steps import CannotGoOn, Exercise, Trace

_MOST_STEPS = 40


def _euclid(trace: Trace, a: int, b: int) -> Fraction:
    """The last remainder before 0; with the mistake off_by_one the one before it."""
    earlier, last = Fraction(a), Fraction(b)
    for _ in range(_MOST_STEPS):
        rest = trace.calculate(f"{earlier} mod {last}")
        if rest <= 0:
            found = trace.pick(last, off_by_one=earlier)
            trace.say(f"gcd({a}, {b}) = {found}")
            return found
        earlier, last = last, rest
    raise CannotGoOn


def _pair(rng: Random, level: int) -> tuple[int, int]:
    """Two numbers with something in common more often than by chance."""
    common = rng.randint(2, 6 + 4 * level)
    a, b = rng.sample(range(2, 8 + 8 * level), 2)
    return max(a, b) * common, min(a, b) * common


@family("number theory")
def greatest_common_divisor(rng: Random, level: int) -> Exercise:
    a, b = _pair(rng, level)

    def solve(trace: Trace) -> str:
        if trace.mistake == "wrong_formula":
            return str(trace.calculate(f"{a} - {b}", "x"))
        if trace.mistake == "wrong_operation":
            return str(trace.calculate(f"{a}*{b}", "x"))
        return str(_euclid(trace, a, b))

    wordings = (
        f"Find the greatest common divisor of {a} and {b}.",
        f"What is the largest number that divides both {a} and {b}?",
        f"Compute gcd({a}, {b}).",
        f"{a} red and {b} blue beads are shared out into equal sets. At most how many sets are there?",
    )
    return Exercise(wordings, f"x = gcd({a}, {b})", solve, ("wrong_formula", "wrong_operation", "off_by_one"))


@family("number theory")
def least_common_multiple(rng: Random, level: int) -> Exercise:
    a, b = _pair(rng, level)

    def solve(trace: Trace) -> str:
        common = _euclid(trace, a, b)
        if trace.mistake == "wrong_operation":
            return str(common)
        if common == 0:
            raise CannotGoOn
        return str(trace.calculate(trace.pick(f"{a}*{b}/{common}", wrong_formula=f"{a}*{b}"), "x"))

    wordings = (
        f"Find the least common multiple of {a} and {b}.",
        f"What is the smallest positive number that both {a} and {b} divide?",
        f"Compute lcm({a}, {b}).",
        f"Two lamps flash every {a} and every {b} seconds. If they flash together now, after how many seconds do they "
        "again?",
    )
    return Exercise(wordings, f"x = lcm({a}, {b})", solve, ("wrong_operation", "wrong_formula", "off_by_one"))


@family("number theory")
def modular_power(rng: Random, level: int) -> Exercise:
    """By repeated squaring."""
    modulus, exponent = rng.randint(5, 9 + 6 * level), rng.randint(3, 3 + 5 * level)
    base = rng.randint(2, 20 + 10 * level)

    def solve(trace: Trace) -> str:
        if trace.mistake == "wrong_formula":
            return str(trace.calculate(f"{base}*{exponent} mod {modulus}", "x"))
        first = value = trace.calculate(f"{base} mod {modulus}")
        for bit in f"{trace.pick(exponent, off_by_one=exponent - 1):b}"[1:]:
            value = trace.calculate(f"{value}*{value} mod {modulus}")
            if bit == "1" and trace.mistake != "dropped_term":
                value = trace.calculate(f"{value}*{first} mod {modulus}")
        return str(value)

    wordings = (
        f"Find {base}^{exponent} mod {modulus}.",
        f"What is the remainder of {base}^{exponent} divided by {modulus}?",
        f"What remains when {base}^{exponent} is divided by {modulus}?",
        f"Divide {base}^{exponent} by {modulus}. What is the remainder?",
    )
    condition = f"x = {base}^{exponent} mod {modulus}"
    return Exercise(wordings, condition, solve, ("wrong_formula", "off_by_one", "dropped_term"))


@family("number theory")
def linear_congruence(rng: Random, level: int) -> Exercise:
    """ax = b modulo m by the inverse of a."""
    modulus = rng.randint(7, 15 + 15 * level)
    a, b = coprime(rng, modulus), rng.randrange(1, modulus)

    def solve(trace: Trace) -> str:
        inverse = pow(a, -1, modulus)
        trace.calculate(f"{a}*{inverse} mod {modulus}")
        used = trace.pick(inverse, sign_slip=modulus - inverse, wrong_operation=a)
        product = trace.pick(f"{used}*{b}", dropped_term=str(used))
        return str(trace.calculate(f"{product} mod {modulus}", "x"))

    wordings = (
        f"Find the smallest x >= 0 with {a}*x = {b} modulo {modulus}.",
        f"Modulo {modulus}, which x from 0 on solves {a}*x = {b}?",
        f"Solve {a}*x = {b} modulo {modulus} for the least x >= 0.",
        f"Which least x >= 0 makes {a}*x leave {b} when divided by {modulus}?",
    )
    condition = f"x = inverse({a}, {modulus})*{b} mod {modulus} + 0"
    return Exercise(wordings, condition, solve, ("sign_slip", "wrong_operation", "dropped_term"))


@family("number theory")
def divisor_count(rng: Random, level: int) -> Exercise:
    number = rng.randint(10, 500 * level)

    def solve(trace: Trace) -> str:
        powers = list(_prime_powers(number))
        trace.say(f"{number} = {'*'.join(f'{prime}^{power}' for prime, power in powers)}")
        kept = powers[trace.pick(0, dropped_term=1) :]
        if not kept:
            raise CannotGoOn
        factor = trace.pick("({} + 1)", off_by_one="{}")
        joiner = trace.pick("*", wrong_operation=" + ")
        return str(trace.calculate(joiner.join(factor.format(power) for _, power in kept), "x"))

    wordings = (
        f"How many positive divisors does {number} have?",
        f"Count the positive divisors of {number}.",
        f"By how many positive whole numbers can {number} be divided without remainder?",
        f"Find the number of positive divisors of {number}.",
    )
    return Exercise(wordings, f"x = divisors({number})", solve, ("dropped_term", "off_by_one", "wrong_operation"))


def _prime_powers(number: int) -> Iterator[tuple[int, int]]:
    prime = 2
    while number > 1:
        power = 0
        while number % prime == 0:
            number //= prime
            power += 1
        if power:
            yield prime, power
        prime = number if prime * prime > number > 1 else prime + 1


@family("number theory")
def from_base(rng: Random, level: int) -> Exercise:
    """Digits of another base in decimal, by Horner's scheme."""
    base = rng.randint(3, 9)
    digits = [rng.randrange(1, base)] + [rng.randrange(base) for _ in range(level + 2)]
    written = "".join(map(str, digits))

    def solve(trace: Trace) -> str:
        value = Fraction(0)
        used = trace.pick(digits, swapped_operands=digits[::-1], dropped_term=digits[:-1])
        for place, digit in enumerate(used):
            by = trace.pick(base, off_by_one=base + 1)
            value = trace.calculate(f"{value}*{by} + {digit}") if place else Fraction(digit)
        return str(value)

    wordings = (
        f"The digits {written} are written in base {base}. What is the number in decimal?",
        f"Convert {written} from base {base} to base ten.",
        f"What does {written} mean in base {base}? Answer in decimal.",
        f"Which decimal number has the digits {written} in base {base}?",
    )
    condition = f"x = base({written}, {base})"
    return Exercise(wordings, condition, solve, ("swapped_operands", "dropped_term", "off_by_one"))

"""Counting, chances and averages; answers are fractions in lowest terms."""

from fractions import Fraction
from random import Random

from trainer.data.synthesis.families.registry import family
from trainer.data.synthesis.families.writing import inner
from trainer.data.synthesis.steps import Exercise, Trace

_THINGS = (("red", "blue"), ("green", "white"), ("black", "yellow"))


def _chance(rng: Random, largest: int) -> Fraction:
    """A fraction between 0 and 1."""
    below = rng.randint(2, largest)
    return Fraction(rng.randint(1, below - 1), below)


@family("probability")
def both_drawn(rng: Random, level: int) -> Exercise:
    """Without putting back: two draws, three from level 4 on."""
    draws, word = (2, "two") if level < 4 else (3, "three")
    wanted, others = rng.randint(draws, 20 + 10 * level), rng.randint(1, 20 + 10 * level)
    colour, other = rng.choice(_THINGS)

    def solve(trace: Trace) -> str:
        total = trace.calculate(f"{wanted} + {others}", "n")
        parts = [
            f"{wanted - trace.pick(draw, wrong_formula=0)}/{total - trace.pick(draw, wrong_formula=0, off_by_one=0)}"
            for draw in range(trace.pick(draws, dropped_term=draws - 1))
        ]
        joiner = trace.pick("*", wrong_operation=" + ")
        return str(trace.calculate(joiner.join(parts), "x"))

    wordings = (
        f"A bag holds {wanted} {colour} and {others} {other} balls. {word.capitalize()} are drawn and not put back. "
        f"What is the probability that all are {colour}?",
        f"From {wanted} {colour} and {others} {other} marbles {word} are taken at once. How likely are all {colour}?",
        f"There are {wanted} {colour} and {others} {other} cards. You take {word} at random. Find the probability of "
        f"{word} {colour} cards.",
        f"A box has {wanted} {colour} and {others} {other} socks. {word.capitalize()} are picked blindly. What is the "
        f"chance that each is {colour}?",
    )
    condition = f"x = C({wanted}, {draws})/C({wanted} + {others}, {draws})"
    mistakes = ("wrong_formula", "off_by_one", "dropped_term", "wrong_operation")
    return Exercise(wordings, condition, solve, mistakes)


@family("probability")
def exactly_so_many(rng: Random, level: int) -> Exercise:
    """The binomial distribution."""
    chance, tries = _chance(rng, 12 + 4 * level), rng.randint(2 + level // 3, 3 + level)
    hits = rng.randint(1, tries - 1)

    def solve(trace: Trace) -> str:
        ways = trace.calculate(f"C({tries}, {hits})", "c")
        miss = trace.calculate(f"1 - {chance}", "q")
        one = f"({chance})^{trace.pick(hits, swapped_operands=tries - hits)}"
        rest = f"({miss})^{trace.pick(tries - hits, swapped_operands=hits)}"
        whole = trace.pick(f"{ways}*{one}*{rest}", dropped_term=f"{one}*{rest}", wrong_formula=f"{ways}*{one}")
        return str(trace.calculate(whole, "x"))

    wordings = (
        f"A try succeeds with probability {chance}. How probable are exactly {hits} successes in {tries} tries?",
        f"You spin {tries} times and win each time with probability {chance}. How likely are exactly {hits} wins?",
        f"Each of {tries} seeds sprouts with probability {chance}. Find the probability that exactly {hits} sprout.",
        f"An event of probability {chance} is tried {tries} times. What is the chance that it happens exactly {hits} "
        "times?",
    )
    condition = f"x = C({tries}, {hits})*({chance})^{hits}*(1 - {chance})^({tries} - {hits})"
    return Exercise(wordings, condition, solve, ("swapped_operands", "dropped_term", "wrong_formula"))


@family("probability")
def at_least_once(rng: Random, level: int) -> Exercise:
    chance, tries = _chance(rng, 12 + 6 * level), rng.randint(2, 6 if level < 3 else 3 + level)

    def solve(trace: Trace) -> str:
        miss = trace.calculate(f"1 - {chance}", "q")
        power = trace.pick(tries, off_by_one=tries - 1)
        none = trace.calculate(f"({miss})^{power}", "r")
        whole = trace.pick(f"1 - {none}", dropped_term=str(none), wrong_formula=f"{tries}*{inner(chance)}")
        return str(trace.calculate(whole, "x"))

    wordings = (
        f"A try succeeds with probability {chance}. What is the probability of at least one success in {tries} tries?",
        f"You play {tries} times and win each time with probability {chance}. How likely is at least one win?",
        f"A part fails with probability {chance}. Of {tries} parts, what is the chance that one or more fail?",
        f"An event of probability {chance} is tried {tries} times. How likely does it happen at least once?",
    )
    condition = f"x + (1 - {chance})^{tries} = 1"
    return Exercise(wordings, condition, solve, ("off_by_one", "dropped_term", "wrong_formula"))


@family("probability")
def expected_value(rng: Random, level: int) -> Exercise:
    """Of a game with two prizes, else nothing."""
    below = rng.randint(3, 6 + 3 * level)
    first = rng.randint(1, below - 2)
    p, q = Fraction(first, below), Fraction(rng.randint(1, below - 1 - first), below)
    a, b = rng.sample(range(1, 20 + 20 * level), 2)

    def solve(trace: Trace) -> str:
        one = trace.calculate(f"{a}*{inner(trace.pick(p, swapped_operands=q))}", "u")
        other = trace.calculate(f"{b}*{inner(trace.pick(q, swapped_operands=p))}", "v")
        whole = trace.pick(f"{one} + {other}", dropped_term=str(one), wrong_formula=f"({a} + {b})/2")
        return str(trace.calculate(whole, "x"))

    wordings = (
        f"A game pays {a} dollars with probability {p} and {b} dollars with probability {q}, else nothing. What is the "
        "expected gain in dollars?",
        f"With probability {p} you get {a}, with probability {q} you get {b}, otherwise 0. Find the expected value.",
        f"A variable is {a} with probability {p}, {b} with probability {q} and 0 otherwise. What is its mean?",
        f"A lottery ticket wins {a} with probability {p} or {b} with probability {q}. How much does it win on average?",
    )
    condition = f"x = {a}*{p} + {b}*{q} + 0"
    return Exercise(wordings, condition, solve, ("swapped_operands", "dropped_term", "wrong_formula"))


@family("probability")
def committee(rng: Random, level: int) -> Exercise:
    """Ways to choose so many from each of two groups."""
    a, b = rng.randint(4, 16 + 4 * level), rng.randint(4, 16 + 4 * level)
    j, k = rng.randint(1, 1 + (level + 1) // 2), rng.randint(2, 2 + level // 2)

    def solve(trace: Trace) -> str:
        first = trace.calculate(trace.pick(f"C({a}, {j})", wrong_formula=f"{a}*{j}"), "u")
        second = trace.calculate(trace.pick(f"C({b}, {k})", wrong_formula=f"{b}*{k}"), "v")
        whole = trace.pick(f"{first}*{second}", wrong_operation=f"{first} + {second}", dropped_term=str(first))
        return str(trace.calculate(whole, "x"))

    wordings = (
        f"In how many ways can {j} of {a} women and {k} of {b} men be chosen?",
        f"A committee needs {j} of {a} teachers and {k} of {b} pupils. How many committees are possible?",
        f"From {a} novels you take {j}, from {b} plays {k}. How many selections are there?",
        f"A team has {j} of {a} defenders and {k} of {b} attackers. Count the possible teams.",
    )
    condition = f"x = C({a}, {j})*C({b}, {k})"
    return Exercise(wordings, condition, solve, ("wrong_formula", "wrong_operation", "dropped_term"))


@family("probability")
def positive_test(rng: Random, level: int) -> Exercise:
    """Bayes' rule."""
    rare, found, false = (_chance(rng, 5 + 3 * level) for _ in range(3))

    def solve(trace: Trace) -> str:
        hit = trace.calculate(f"{inner(rare)}*{inner(found)}", "u")
        well = trace.calculate(f"1 - {rare}", "q")
        alarm = trace.calculate(f"{inner(well)}*{inner(false)}", "v")
        total = trace.calculate(trace.pick(f"{hit} + {alarm}", dropped_term=str(alarm)), "t")
        whole = trace.pick(f"{inner(hit)}/{inner(total)}", wrong_formula=str(hit), swapped_operands=str(found))
        return str(trace.calculate(whole, "x"))

    wordings = (
        f"A part is faulty with probability {rare}. A test flags faulty parts with probability {found} and good "
        f"ones with probability {false}. A part is flagged. How likely is it faulty?",
        f"Mail is spam with probability {rare}. A filter stops spam with probability {found} and other mail with "
        f"probability {false}. What is the probability that stopped mail is spam?",
        f"An illness has probability {rare}. A test is positive with probability {found} for the ill and {false} for "
        "the healthy. Given a positive test, what is the probability of illness?",
        f"It rains with probability {rare}. The forecast says rain with probability {found} if it will rain and "
        f"{false} if not. It says rain. How likely is rain?",
    )
    condition = f"x*(({rare})*({found}) + (1 - {rare})*({false})) = ({rare})*({found})"
    return Exercise(wordings, condition, solve, ("dropped_term", "wrong_formula", "swapped_operands"))

"""R_corr: is the answer right? Symbolic: the answer is compared with the verified one, exactly.

The answer is what follows the last "The answer is" outside the working (`<think>…</think>`). Where a number is due a
number must be written: an unevaluated "3 + 4" would let a policy collect the reward by repeating the question.
"""

import re
from fractions import Fraction
from functools import lru_cache

from math_verify import parse, verify
from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig

CLOSING = "The answer is"
LONGEST_ANSWER = 200
_INTEGER_OR_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FRACTION = re.compile(r"(-?)(?:\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}|([0-9]+)\s*/\s*([0-9]+))")
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")
_WELL_FORMED = re.compile(
    rf"(?:<think>(?:(?!</?think>).)*</think>)?\s*{CLOSING} (?:(?!</?think>)(?:\.(?=\S)|[^.\n]))+\.", re.DOTALL
)
_NAMES = frozenset({"sqrt", "pi", "sin", "cos", "tan", "asin", "acos", "atan", "exp", "log", "ln", "oo"})
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")


def after_working(completion: str) -> str | None:
    """What is said after `</think>` (the whole text where nothing was worked out); None if the working never ends."""
    before, opened, _ = completion.rpartition("<think>")
    _, closed, said = completion.rpartition("</think>")
    if not opened and not closed:
        return completion
    return said if closed and len(before) < len(completion) - len(said) else None


def extract_answer(completion: str) -> str | None:
    """The expression after the last "The answer is", up to the end of its sentence; None where there is none."""
    said = after_working(completion)
    if said is None or CLOSING not in said:
        return None
    rest = said.rpartition(CLOSING)[2].removeprefix(":")
    answer = _SENTENCE_END.split(rest, maxsplit=1)[0].strip().strip("$").strip()
    return answer or None


def exact_number(text: str) -> Fraction | None:
    """The exact value of an integer, a decimal or a fraction (`3/4`, `\\frac{3}{4}`); None for anything else."""
    text = text.strip().replace("−", "-")
    if len(text) > LONGEST_ANSWER:
        return None
    if _INTEGER_OR_DECIMAL.fullmatch(text):
        return Fraction(text)
    found = _FRACTION.fullmatch(text)
    if found is None:
        return None
    numerator, denominator = (int(part) for part in found.groups()[1:] if part is not None)
    if denominator == 0:
        return None
    return Fraction(-numerator if found[1] else numerator, denominator)


def same_answer(answer: str, expected: str) -> bool:
    """Whether two expressions have the same value.

    Numbers are compared exactly, without a parser; where a whole number is due, a fraction such as "6/2" is a
    question, no answer. Anything else is decided by math-verify, whose timeout uses a signal: main thread only.
    """
    due, given = exact_number(expected), exact_number(answer)
    if due is not None:
        return given == due and not (due.denominator == 1 and _FRACTION.fullmatch(answer.strip()))
    if answer == expected:
        return True
    if len(answer) > LONGEST_ANSWER or any(word not in _NAMES for word in _WORD.findall(answer)):
        return False
    return _symbolically_equal(answer, expected)


@lru_cache(maxsize=4096)
def _symbolically_equal(answer: str, expected: str) -> bool:
    configs = (LatexExtractionConfig(), ExprExtractionConfig())
    gold, target = (parse(f"${text.replace('**', '^')}$", extraction_config=configs) for text in (expected, answer))
    return bool(gold and target and verify(gold, target))


def correctness(completion: str, expected: str) -> float:
    """R_corr: 1 if the completion's answer equals the expected expression, else 0."""
    answer = extract_answer(completion)
    return float(answer is not None and same_answer(answer, expected))


def shows_work(completion: str) -> bool:
    """Whether there is any working inside `<think>…</think>`."""
    return re.search(r"<think>\s*\S.*?</think>", completion, re.DOTALL) is not None


def well_formed(completion: str) -> bool:
    """Working at most once, at the start and closed, then one closing sentence and nothing else."""
    return _WELL_FORMED.fullmatch(completion) is not None

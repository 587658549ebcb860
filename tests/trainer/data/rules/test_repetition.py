"""Repetition against runs of words counted as strings."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.rules.documents import ENGLISH, GERMAN, document
from trainer.data.rules.repetition import (
    REPEATED_RUNS,
    TOP_RUNS,
    DuplicateLines,
    DuplicateParagraphs,
    RepeatedWords,
    is_repetitive,
    repeated_runs,
    repeated_shares,
    run_characters,
    top_run_characters,
)
from trainer.data.words import find_words

few_words = st.lists(st.sampled_from(["a", "of", "the", "longer"]), min_size=1, max_size=60)
a_word_or_two_again = st.lists(st.integers(0, 30).map(lambda number: f"w{number}"), min_size=1, max_size=80)


def plain_runs(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def plain_top(words: list[str], n: int) -> int:
    """Characters of the most frequent run, of those that occur twice at least."""
    counts = Counter(plain_runs(words, n))
    most = max(counts.values(), default=0)
    return max((most * len("".join(run)) for run, count in counts.items() if count == most > 1), default=0)


def plain_repeated(words: list[str], n: int) -> int:
    covered, seen = set(), set()
    for start, run in enumerate(plain_runs(words, n)):
        if run in seen:
            covered |= set(range(start, start + n))
        seen.add(run)
    return sum(len(words[place]) for place in covered)


@settings(deadline=None)  # the first call makes tables
@given(few_words | a_word_or_two_again)
def test_characters_in_runs_of_words_are_those_counted_as_strings(words: list[str]) -> None:
    found = find_words(" ".join(words))
    top, repeated = dict.fromkeys(TOP_RUNS, 0), dict.fromkeys(REPEATED_RUNS, 0)
    for n, starts, groups in repeated_runs(found.hashes):
        if n in TOP_RUNS:
            top[n] = top_run_characters(found, starts, groups, n)
        else:
            repeated[n] = run_characters(found, starts, groups, n)
    assert top == {n: plain_top(words, n) for n in TOP_RUNS}
    assert repeated == {n: plain_repeated(words, n) for n in REPEATED_RUNS}
    total = len("".join(words))
    assert is_repetitive(found) == (
        any(top[n] > share * total for n, share in TOP_RUNS.items())
        or any(repeated[n] > share * total for n, share in REPEATED_RUNS.items())
    )


@settings(deadline=None)  # the first call makes tables
@given(st.lists(st.sampled_from(["one", "another line", "x"]), max_size=20))
def test_shares_of_lines_are_those_of_the_ones_that_came_before(lines: list[str]) -> None:
    again = [line for place, line in enumerate(lines) if line in lines[:place]]
    of_number, of_characters = repeated_shares(lines)
    assert abs(of_number * len(lines) - len(again)) < 1e-9
    assert abs(of_characters * len("".join(lines)) - len("".join(again))) < 1e-9


def test_repeated_lines_drop_prose_but_not_the_short_lines_of_code() -> None:
    rule = DuplicateLines(0.3)
    assert rule.apply(document("same line\n" * 4 + "another\n" * 1)) is None
    assert rule.apply(document("first line\nsecond line\nthe third\nd\nd\n"))
    assert rule.apply(document("\n\n \n")), "there is no line to repeat"
    long = "one line that is much longer than all of the others\n"
    assert rule.apply(document(long * 2 + "a\nb\nc\nd\ne\nf\n")) is None, "one line of eight, but most characters"
    code = "".join(f"if value_{i} is not None:\n    pass\nelse:\n    return\n" for i in range(9))
    assert rule.apply(document(code)) is None
    assert rule.apply(document(code, "code"))
    assert rule.apply(document("    raise ValueError('no such thing')\n" * 9, "code")) is None


def test_repeated_paragraphs() -> None:
    rule = DuplicateParagraphs()
    assert rule.apply(document(f"{ENGLISH}\n\n{GERMAN}"))
    assert rule.apply(document(f"{ENGLISH}\n \n{GERMAN}\r\n\r\n{ENGLISH}")) is None


def test_repeated_runs_drop_prose_in_the_named_domains() -> None:
    rule = RepeatedWords(["general"])
    assert rule.apply(document(ENGLISH))
    assert rule.apply(document(f"{ENGLISH} {ENGLISH}")) is None
    assert rule.apply(document("click here to win. " * 20)) is None
    assert rule.apply(document("click here to win. " * 20, "code"))
    assert rule.apply(document(""))

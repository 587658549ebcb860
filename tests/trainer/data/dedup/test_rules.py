"""Duplicates as rules."""

import pytest

from tests.trainer.data.rules.documents import ENGLISH, GERMAN, document
from trainer.data.dedup import ExactDuplicate, NearDuplicate, shingles


def test_exact_duplicates_differ_in_white_space_at_most() -> None:
    rule = ExactDuplicate()
    assert rule.apply(document(ENGLISH))
    assert rule.apply(document(ENGLISH.replace(" ", "\n  "))) is None
    assert rule.apply(document(ENGLISH + " More."))


@pytest.mark.parametrize("text", [ENGLISH * 3, "数据清洗是训练语言模型的第一步，它决定了模型能学到什么。" * 9])
def test_near_duplicates_are_found_in_every_script(text: str) -> None:
    rule = NearDuplicate(0.8)
    assert rule.apply(document(text))
    assert rule.apply(document(text + " End.")) is None
    assert rule.apply(document(GERMAN))


def test_shingles_are_runs_of_five_words() -> None:
    assert shingles("a b c d e f") == ["a b c d e", "b c d e f"]
    assert shingles("a b") == ["a b"]
    assert shingles("") == [""]
    assert len(shingles("字" * 60)) == 56

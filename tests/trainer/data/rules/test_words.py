"""Too few words, too little in the characters."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.rules.documents import ENGLISH, document
from trainer.data.rules.words import LowEntropy, TooFewWords, character_entropy


@pytest.mark.parametrize("word", ["word ", "字", "कि "])
def test_fifty_words_are_enough_and_one_less_is_not(word: str) -> None:
    rule = TooFewWords(50)
    assert rule.apply(document(word * 50))
    assert rule.apply(document(word * 49)) is None


@settings(deadline=None)  # the first call makes tables
@given(st.text() | st.text("abc é"))
def test_entropy_is_that_of_the_characters(text: str) -> None:
    shares = [count / len(text) for count in Counter(text).values()]
    assert character_entropy(text) == pytest.approx(-sum(share * math.log2(share) for share in shares), abs=1e-9)


def test_text_of_few_characters_is_dropped() -> None:
    rule = LowEntropy(3.5)
    assert rule.apply(document("abcd efgh" * 50)) is None
    assert rule.apply(document("")) is None
    assert rule.apply(document(ENGLISH))

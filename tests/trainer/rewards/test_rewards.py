"""The four rewards: in [0, 1] for any text, and each tells what it is there to tell apart."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.rewards.coherence import band, coherence, overlap, repeated_share, sentences, words
from trainer.rewards.composite import Parts, composite_reward, score_group
from trainer.rewards.correctness import (
    correctness,
    exact_number,
    extract_answer,
    same_answer,
    shows_work,
    well_formed,
)
from trainer.rewards.diversity import diversity, normalised_entropy
from trainer.rewards.safety import RULES, broken_rules, safety
from trainer.spec import RewardWeights

WORKED = "<think>7 + 5 = 12, write 2 carry 1. 4 + 8 + 1 = 13, write 3 carry 1.</think>The answer is 132."
DIRECT = "The answer is 132."


# -- correctness -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (WORKED, "132"),
        (DIRECT, "132"),
        ("The answer is 1. No: the answer is hidden. The answer is 3.5.", "3.5"),
        ("The answer is $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("The answer is 7", "7"),
        ("The answer is 7.\nAnything after it", "7"),
        ("The answer is .", None),
        ("132", None),
        ("", None),
        ("<think>The answer is 5.", None),
        ("<think>The answer is 5.</think>", None),
        ("<think>The answer is 5.</think>The answer is 6.", "6"),
        ("The answer is 5.<think>and yet", None),
    ],
)
def test_the_answer_is_what_follows_the_last_closing_outside_the_working(completion: str, answer: str | None) -> None:
    assert extract_answer(completion) == answer


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        ("632", "632", True),
        ("0632", "632", True),
        ("632.0", "632", True),
        ("-4", "-4", True),
        ("4", "-4", False),
        ("0.5", "1/2", True),
        ("2/4", "1/2", True),
        ("\\frac{1}{2}", "1/2", True),
        ("-\\frac{1}{2}", "-1/2", True),
        ("0.333", "1/3", False),
        ("1/0", "1/2", False),
        ("6/2", "3", False),
        ("600 + 32", "632", False),
        ("about 632", "632", False),
        ("9" * 5000, "632", False),
        ("x**2 + 1", "1 + x**2", True),
        ("2*(x+1)", "2*x+2", True),
        ("2*x+1", "2*x+2", False),
        ("2*sqrt(2)", "sqrt(8)", True),
        ("who knows", "x", False),
    ],
)
def test_answers_are_compared_by_value_and_a_number_must_be_written_as_one(
    answer: str, expected: str, same: bool
) -> None:
    assert same_answer(answer, expected) is same


@given(st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=1000))
def test_a_written_fraction_has_its_value(value: object) -> None:
    assert exact_number(str(value)) == value


@given(st.text(max_size=60))
def test_any_text_has_a_correctness_of_zero_or_one_against_a_number(text: str) -> None:
    assert correctness(text, "7") in (0.0, 1.0)
    assert correctness(f"{text}</think>The answer is 7.", "7") == 1.0


def test_form() -> None:
    assert shows_work(WORKED)
    assert well_formed(WORKED)
    assert not shows_work(DIRECT)
    assert well_formed(DIRECT)
    assert not shows_work("<think> </think>" + DIRECT)
    for broken in (
        "<think>7" + DIRECT,
        WORKED + WORKED,
        DIRECT + " And more",
        DIRECT + " And more.",
        DIRECT + "\n" + DIRECT,
        "132",
        DIRECT[:-1],
    ):
        assert not well_formed(broken)


# -- coherence -------------------------------------------------------------------------------------------------------


def test_the_band_rises_holds_and_falls() -> None:
    assert band(0) == 0
    assert band(0.05) == pytest.approx(0.5)
    assert band(0.1) == band(0.35) == band(0.6) == 1
    assert band(0.8) == pytest.approx(0.5)
    assert band(1) == 0
    assert all(band(a / 100) <= band(b / 100) for a, b in pairwise(range(0, 60)))


def test_overlap_counts_words_and_pairs_of_words() -> None:
    # shared: "b", "c", "b c"; in all: a b c d, "a b" "b c" "c d"
    assert overlap("a b c", "b c d") == pytest.approx(3 / 7)
    assert overlap("Same words here", "same words, here!") == 1
    assert overlap("one two", "three four") == 0


def test_coherence_is_the_mean_of_the_band_times_what_is_not_repeated() -> None:
    text = "a b c d. b c e f. x y z w."
    expected = (band(overlap("a b c d", "b c e f")) + 0) / 2
    assert coherence(text) == pytest.approx(expected)
    assert repeated_share(words("a b c d a b c d")) == pytest.approx(1 / 5)
    echo = "the sum is small and even. the sum is small and odd. the sum is small and prime."
    parts = sentences(echo)
    mean = sum(band(overlap(a, b)) for a, b in pairwise(parts)) / 2
    assert coherence(echo) == pytest.approx(mean * (1 - repeated_share(words(echo))))
    assert coherence(echo) < mean


def test_a_text_without_neighbouring_sentences_scores_zero_and_working_counts() -> None:
    assert coherence("") == coherence(DIRECT) == 0
    assert coherence(WORKED) > 0.4
    assert len(sentences(WORKED)) == 3
    assert coherence("same thing. " * 4) == 0


def test_chinese_sentences_are_words_of_one_character() -> None:
    assert words("三角形 area") == ["三", "角", "形", "area"]
    assert coherence("三角形的面积是六。面积是底乘高。") > 0


# -- diversity -------------------------------------------------------------------------------------------------------


def test_entropy_is_normalised() -> None:
    assert normalised_entropy([1, 2, 3, 4]) == pytest.approx(1)
    assert normalised_entropy([1, 1, 1, 1]) == 0
    assert normalised_entropy([1, 1, 2, 2]) == pytest.approx(math.log(2) / math.log(4))
    assert normalised_entropy([]) == normalised_entropy([5]) == 0


def test_copies_lose_the_half_that_differing_answers_earn() -> None:
    a, b = [1, 2, 3, 4, 5, 6], [11, 12, 13, 14, 15, 16]
    assert diversity([a, a]) == pytest.approx([0.5, 0.5])
    assert diversity([a, b]) == pytest.approx([1, 1])
    # 4-grams of a: 3, of its prefix: 2, shared: 2
    assert diversity([a, a[:5]]) == pytest.approx([0.5 + 0.5 / 3] * 2)
    assert diversity([a, a, b]) == pytest.approx([0.75, 0.75, 1])
    assert diversity([[1], [1], []])[2] == 0.5
    assert diversity([a]) == pytest.approx([0.5])


# -- safety ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("write to jane.doe+x@mail.example.org now", "email_address"),
        ("call +49 170 1234567 today", "phone_number"),
        ("call (415) 555-2671", "phone_number"),
        ("手机 138 1234 5678", "phone_number"),
        ("server 192.168.10.254 is down", "ip_address"),
        ("card 4111 1111 1111 1111", "card_number"),
        ("account GB82 WEST 1234 5698 7654 32", "bank_account"),
        ("ssn 536-90-4399", "social_security_number"),
        ("Here is how to build a simple pipe bomb", "weapon_instructions"),
        ("教你制作炸弹", "weapon_instructions"),
        ("steps to cook crystal meth", "drug_synthesis"),
        ("you should kill yourself", "self_harm"),
        ("to steal their bank accounts, first", "credential_theft"),
        ("just run rm -rf / and wait", "destructive_command"),
        ("<script>alert(1)</script>", "active_markup"),
        ("ok <|user|> next", "chat_markup"),
        ("a\x00b", "control_characters"),
    ],
)
def test_each_rule_names_what_it_is_for(text: str, rule: str) -> None:
    assert broken_rules(text) == [rule]
    assert safety(text) == 1 - next(r.severity for r in RULES if r.name == rule)


@pytest.mark.parametrize(
    "text",
    [
        WORKED,
        DIRECT,
        "",
        "192 + 168 = 360, and 10.25 - 3.5 = 6.75.",
        "x + 123456789 = 4111111111111112",
        "555 - 123 - 456 = -24, 5 +12 34 56 78, y +123456789",
        "The bomb disposal team arrived. History of explosives.",
        "The answer is <b>7</b>.\n\tDone",
        "GB00 WEST 1234 5698 7654 32",
        "version 1.2.3.4.5 of 300.1.2.3",
    ],
)
def test_ordinary_text_breaks_no_rule(text: str) -> None:
    assert broken_rules(text) == []
    assert safety(text) == 1


def test_every_rule_is_named_once() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


# -- composite -------------------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5))
def test_every_part_of_every_text_is_in_the_unit_interval(texts: list[str]) -> None:
    tokens = [list(text.encode()) for text in texts]
    for parts in score_group(texts, tokens, [True] * len(texts), "7"):
        assert all(-1e-12 <= value <= 1 + 1e-12 for value in parts)


def test_the_composite_is_the_weighted_sum_of_the_article() -> None:
    assert composite_reward(Parts(1, 1, 1, 1), RewardWeights()) == pytest.approx(1)
    assert composite_reward(Parts(1, 0.5, 0.25, 0), RewardWeights()) == pytest.approx(0.4 + 0.15 + 0.05)
    only_correct = RewardWeights(correctness=2, coherence=0, diversity=0, safety=0)
    assert composite_reward(Parts(1, 1, 1, 1), only_correct) == 2


def test_a_completion_that_was_cut_off_has_given_no_answer() -> None:
    whole, cut = score_group([DIRECT, DIRECT], [[1, 2], [1, 2]], [True, False], "132")
    assert (whole.correctness, cut.correctness) == (1, 0)

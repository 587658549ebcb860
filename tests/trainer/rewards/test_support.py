"""Laws of the support reward: in [0, 1], monotone in what is known, deaf to the question's own words."""

from pathlib import Path
from random import Random

import pytest

from trainer.data.knowledge import KnowledgeStore, build
from trainer.rewards.support import SupportReward, support
from trainer.spec import Record

PASSAGES = [
    "Marie Curie won the Nobel Prize in Physics in 1903 for her research on radiation.",
    "The harbour of Hamburg lies on the river Elbe.",
]


def test_what_a_passage_says_is_supported_and_what_none_says_is_not() -> None:
    assert support("Marie Curie won the Nobel Prize in 1903.", PASSAGES).value > 0.8
    assert support(PASSAGES[0], PASSAGES) == (1.0, 0)
    assert support(PASSAGES[1], PASSAGES) == (1.0, 1)
    assert support("Bananas grow everywhere.", PASSAGES) == (0.0, None)
    assert support("", PASSAGES) == support("Hello there.", []) == (0.0, None)


def test_a_wrong_number_takes_all_support_from_its_sentence() -> None:
    assert support("Marie Curie won the Nobel Prize in 1911.", PASSAGES).value == 0
    both = support("Marie Curie won the Nobel Prize in 1911. Hamburg lies on the Elbe.", PASSAGES)
    assert 0 < both.value < 1
    assert both.passage == 1


def test_repeating_the_question_earns_nothing() -> None:
    question = "Did Marie Curie win the Nobel Prize in Physics in 1903 for her research on radiation?"
    assert support("Marie Curie, Nobel Prize in Physics, research on radiation.", PASSAGES, question).value == 0
    assert support("It lies on the river Elbe.", PASSAGES, "Where is Hamburg?").value > 0.5


def test_of_two_things_that_a_passage_says_the_one_that_was_asked_for_counts_more() -> None:
    passage = "Hamburg lies on the river Elbe. Munich lies on the river Isar."
    elbe, isar = (support(answer, [passage], "Where does Hamburg lie?").value for answer in ("Elbe.", "Isar."))
    assert elbe == 1
    assert isar < 1


def test_only_what_follows_the_working_counts() -> None:
    assert support(f"<think>{PASSAGES[0]}</think> Bananas.", PASSAGES).value == 0
    assert support(f"<think>Bananas.</think> {PASSAGES[0]}", PASSAGES).value == 1
    assert support(f"<think>{PASSAGES[0]}", PASSAGES).value == 0


def test_more_knowledge_never_lowers_support_and_it_stays_in_its_bounds() -> None:
    rng = Random(0)
    words = [f"w{number}" for number in range(12)] + ["7", "11"]

    def text() -> str:
        return ". ".join(" ".join(rng.choices(words, k=rng.randint(1, 8))) for _ in range(rng.randint(1, 3)))

    for _ in range(200):
        answer, passages = text(), [text() for _ in range(4)]
        values = [support(answer, passages[:known]).value for known in range(5)]
        assert values == sorted(values)
        assert all(0 <= value <= 1 for value in values)


def test_words_in_disorder_are_supported_less() -> None:
    ordered = support("harbour of Hamburg lies on the river Elbe", PASSAGES).value
    assert ordered > support("Elbe river harbour on lies Hamburg", PASSAGES).value > 0


def test_retrieval_by_the_question_names_the_passage_that_decided(tmp_path: Path) -> None:
    build(
        (
            Record(id=f"d{n}", text=text, source="s", domain="general", language="en")
            for n, text in enumerate([*PASSAGES, "中国的首都是北京，上海是最大的城市。"])
        ),
        tmp_path,
    )
    reward = SupportReward(KnowledgeStore.open(tmp_path))
    right, off_topic, wrong = reward.score(
        "Where is the harbour of Hamburg?", ["On the river Elbe.", PASSAGES[0], "On the river Rhine."]
    )
    assert right == (1.0, PASSAGES[1], "d1")
    assert off_topic == (0.0, "", "")
    assert 0 < wrong.value < right.value
    assert [scored.value for scored in reward.score("the of", ["Anything."])] == [0.0]
    beijing, shanghai = reward.score("中国的首都是哪里？", ["北京", "南京"])
    assert beijing.value == pytest.approx(1.0)
    assert shanghai.value < 1

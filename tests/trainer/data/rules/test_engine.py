"""The engine keeps account, in the order that the settings state, and takes any text."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.rules.documents import ENGLISH, GERMAN, document
from trainer.data.rules import Document, RuleEngine, default_rules
from trainer.data.rules.words import TooFewWords
from trainer.records import DOMAINS
from trainer.spec import Domain, Record, RuleSettings

EVERY_RULE = default_rules(
    RuleSettings(
        min_words=0, min_entropy_bits=0, languages=("en",), hide_names=True, repetition_domains=DOMAINS,
    )
)  # fmt: skip


def test_the_engine_counts_each_drop_once_under_the_first_rule_that_says_no() -> None:
    engine = RuleEngine(default_rules(RuleSettings()), seed=0)
    texts = ["short", "short", "a b " * 60, ENGLISH, GERMAN]
    kept = [text for text in texts if engine.apply(document(text).record) is not None]
    assert engine.read == len(texts) == engine.kept + sum(engine.dropped.values())
    assert kept[0] == ENGLISH
    assert kept[-1] == GERMAN
    assert engine.dropped["too few words"] == 2
    assert engine.dropped["low character entropy"] == 1
    assert "too few words: 2" in engine.summary()


def test_rules_come_in_the_order_of_the_settings() -> None:
    settings = RuleSettings(order=("personal_data", "entropy", "words"))
    assert [rule.name for rule in default_rules(settings)] == [
        "personal data",
        "low character entropy",
        "too few words",
    ]
    first = {order[0]: RuleEngine(default_rules(RuleSettings(order=order)), 0) for order in (
        ("entropy", "words"), ("words", "entropy"),
    )}  # fmt: skip
    for engine in first.values():
        engine.apply(document("a a").record)
    assert first["entropy"].dropped == {"low character entropy": 1, "too few words": 0}
    assert first["words"].dropped == {"low character entropy": 0, "too few words": 1}
    with pytest.raises(ValueError, match="twice"):
        RuleSettings(order=("words", "words"))
    with pytest.raises(ValueError, match="order"):
        RuleSettings.model_validate({"order": ["wrods"]})


def test_every_evaluation_set_counts_also_those_that_a_job_reads(tmp_path: Path) -> None:
    for name, text in (("named", ENGLISH), ("heldout", GERMAN)):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": text}))
    settings = RuleSettings(evaluation_sets=(str(tmp_path / "named.jsonl"),))
    engine = RuleEngine(default_rules(settings, [tmp_path / "heldout.jsonl"]), 0)
    assert engine.apply(document(ENGLISH).record) is engine.apply(document(GERMAN).record) is None
    assert engine.dropped["in an evaluation set"] == 2
    assert "in an evaluation set" not in RuleEngine(default_rules(RuleSettings()), 0).dropped


def test_personal_data_is_summed_up() -> None:
    engine = RuleEngine(default_rules(RuleSettings(order=("personal_data",))), 0)
    kept = engine.apply(document("jane@example.org").record)
    assert kept is not None
    assert kept.text == "[email]"
    assert dict(engine.scrubbed) == {"email": 1}
    assert not RuleEngine([], 0).scrubbed


@settings(deadline=None)  # the first call loads models
@given(
    st.text(st.characters(), max_size=200) | st.text("a.@:+1 2-#\n\x00\ud800字ก", max_size=200),
    st.sampled_from(DOMAINS),
    st.sampled_from(["", "en", "zh"]),
)
def test_no_text_makes_a_rule_raise(text: str, domain: Domain, language: str) -> None:
    """Half surrogate pairs too, which records from sources never have."""
    given = Document(Record(id="", text=text, source="test", domain=domain, language=language))
    for rule in EVERY_RULE:
        result = rule.apply(given)
        assert result is None or isinstance(result.text, str)


def test_examples_are_a_few_drawn_from_all_and_the_same_for_the_same_seed() -> None:
    def examples(seed: int) -> list[str]:
        engine = RuleEngine([TooFewWords(50)], seed)
        for number in range(500):
            engine.apply(document(f"text {number}").record)
        return [example["text"] for example in engine.examples["too few words"]]

    drawn = [examples(seed) for seed in range(8)]
    assert examples(0) == drawn[0]
    assert {len(texts) for texts in drawn} == {3}
    assert max(int(text.split()[1]) for texts in drawn for text in texts) > 250
    assert any(first != second for first, second in pairwise(drawn))

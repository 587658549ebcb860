"""Laws of picking a domain: what rules ask for, no leak between the sides, same rows give the same classifier."""

import gzip
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from pydantic import ValidationError

from trainer.data.subset.classifier import features, train
from trainer.data.subset.examples import Example, hold_back, measured, read_examples, read_folder
from trainer.data.subset.rules import RulePicker
from trainer.spec import Record, SubsetRules, SubsetSpec
from trainer.subset_rules import LEGAL, MEDICAL

RNG = Random(0)
SHIP, FARM = ["mast", "anchor", "harbour", "sail", "captain"], ["plough", "barn", "harvest", "cattle", "orchard"]
PLAIN = ["the", "of", "and", "a", "in", "was", "with", "some", "old", "new"]


def text(words: list[str]) -> str:
    return " ".join(RNG.choices(words + PLAIN, k=30))


def record(said: str, **fields: object) -> Record:
    plain = {"id": "d", "source": "s", "domain": "general", "language": "en", "meta": {}}
    return Record.model_validate(plain | {"text": said} | fields)


def test_every_condition_of_a_rule_counts() -> None:
    rules = SubsetRules(
        keywords=("sail", "anchor*", "rope ladder"), min_distinct=2, min_per_1000_words=50, sources=("s",),
        licenses=("MIT",), languages=("en",), domains=("general",),
    )  # fmt: skip
    said = "He set SAIL when the anchors were up."
    meta = {"license": "MIT"}
    pick = RulePicker(rules)
    assert pick(record(said, meta=meta))
    assert pick(record("Sail and a rope\nladder.", meta=meta))
    for field, other in (("source", "t"), ("language", "de"), ("domain", "science"), ("meta", {})):
        assert not pick(record(said, **({"meta": meta} | {field: other})))
    assert not pick(record("A sailor and a sail.", meta=meta))
    assert not pick(record("anchor anchored anchors", meta=meta))
    assert not pick(record(said + " word" * 40, meta=meta))


def test_patterns_and_words_of_scripts_without_spaces() -> None:
    pick = RulePicker(SubsetRules(keywords=("疾病",), patterns=(r"\b\d+ mg\b",), min_distinct=1))
    assert pick(record("他得了严重的疾病。"))
    assert pick(record("Take 20 MG a day."))
    assert not pick(record("Take 20 kg."))


def test_rules_that_pick_nothing_or_do_not_compile_are_refused() -> None:
    with pytest.raises(ValidationError, match="rules pick nothing"):
        SubsetRules()
    with pytest.raises(ValidationError, match="no regular expression"):
        SubsetRules(patterns=("(",))
    with pytest.raises(ValidationError, match="there are: medical, legal"):
        spec(rules="cooking")


def test_shipped_rules_tell_medicine_from_law() -> None:
    medical = "The patient was diagnosed with chronic hypertension and was given medication at the hospital."
    legal = "This Agreement shall be governed by the laws of Delaware, and either party may terminate it upon breach."
    for pick, yes, no in ((RulePicker(MEDICAL), medical, legal), (RulePicker(LEGAL), legal, medical)):
        assert pick(record(yes))
        assert not pick(record(no))


def examples(count: int) -> list[Example]:
    return [Example(text(SHIP if number % 2 else FARM), bool(number % 2)) for number in range(count)]


def test_the_classifier_learns_and_is_the_same_for_the_same_rows() -> None:
    rows = examples(200)
    texts, labels = [row.text for row in rows], [row.positive for row in rows]
    one, two = (train(texts, labels) for _ in range(2))
    fresh = examples(100)
    scores = [one.probability(row.text) for row in fresh]
    assert scores == [two.probability(row.text) for row in fresh]
    assert np.mean([(score > 0.5) == row.positive for score, row in zip(scores, fresh, strict=True)]) > 0.95
    with pytest.raises(ValueError, match="both kinds"):
        train(texts, [True] * len(texts))


def test_features_have_length_one_and_know_the_order_of_words() -> None:
    for said in ("mast anchor", "mast", "mast mast mast 帆船"):
        assert np.linalg.norm(features(said).values) == pytest.approx(1)
    assert not np.array_equal(features("mast anchor").buckets, features("anchor mast").buckets)
    assert len(features("").buckets) == 0


def test_a_repeated_text_is_never_on_both_sides() -> None:
    rows = examples(200)
    rows += [Example(row.text.upper() + "!", row.positive) for row in rows]
    sides = hold_back(rows, 0.3)
    assert sum(map(len, sides)) == len(rows)
    learnt, held = ({row.text.casefold().strip("!") for row in side} for side in sides)
    assert not learnt & held
    assert 0.15 < len(sides[1]) / len(rows) < 0.45
    with pytest.raises(ValueError, match="there are 0 examples of the domain to learn from"):
        hold_back([row for row in rows if not row.positive], 0.3)


def test_precision_and_recall_are_what_counting_says() -> None:
    rows = [Example(str(number), number % 3 == 0) for number in range(30)]
    found = measured(rows, lambda said: float(int(said) >= 15), 0.5)
    assert found["precision"][0] == pytest.approx(5 / 15, abs=1e-4)
    assert found["recall"][0] == pytest.approx(5 / 10, abs=1e-4)
    assert found["positive"] == 10
    nothing = measured(rows, lambda said: 0.0, 0.5)
    assert nothing["precision"] is None
    assert nothing["recall"][0] == 0


def spec(**fields: object) -> SubsetSpec:
    return SubsetSpec.model_validate({"name": "subset", "inputs": {"documents": "clean"}, **fields})


def test_a_spec_says_one_way() -> None:
    for fields in ({}, {"examples": "a", "folder": "b"}, {"rules": "medical", "folder": "b"}):
        with pytest.raises(ValidationError, match="'rules'"):
            spec(**fields)
    assert spec(rules="medical").rules == MEDICAL


def test_examples_are_read_and_mistakes_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"text": "a", "label": 1}\n{"text": "b", "label": "other"}\n')
    assert list(read_examples(path, ("1",))) == [("a", True), ("b", False)]
    for line, told in (('{"text": "a"}', "line 1: an example needs"), ("[]", "no JSON object"), ("{", "is not JSON")):
        wrong = tmp_path / "wrong.jsonl"
        wrong.write_text(line)
        with pytest.raises(ValueError, match=told):
            list(read_examples(wrong, ("1",)))
    with pytest.raises(ValueError, match="does not exist"):
        list(read_examples(tmp_path / "none.jsonl", ("1",)))


def test_a_folder_of_texts_and_rows_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "two"}) + "\n")
    (tmp_path / "c.png").write_bytes(b"\0")
    assert list(read_folder(tmp_path)) == ["one", "two"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no text"):
        list(read_folder(tmp_path / "empty"))

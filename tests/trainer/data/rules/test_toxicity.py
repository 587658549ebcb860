"""The rule for toxic text, with a trained model and with the list of words."""

import json
from pathlib import Path

import pytest

from tests.trainer.data.rules.documents import ENGLISH, document
from trainer.data.rules.mentions import harmless_mentions
from trainer.data.rules.order import toxicity_model
from trainer.data.rules.toxicity import Toxicity, WordList, labelled_rows, train
from trainer.spec import RuleSettings

ROWS = [(f"you are a {word} idiot", "insult") for word in ("total", "real", "right")] * 5 + [
    (f"you are a {word} friend", "fine") for word in ("total", "real", "right")
] * 5


def test_the_list_counts_passages_with_listed_words() -> None:
    model = WordList()
    assert model.toxicity(ENGLISH) == model.toxicity("") == 0
    assert model.toxicity("a bastard") == 0.5
    assert model.toxicity("bastard " * 4) > 0.9
    mild = model.toxicity(ENGLISH * 20 + " bastard")
    assert 0 < mild < 0.05, "one word in a long text is little"
    for harmless in ("My sister is a lesbian.", "Two gay men live next door.", "queer history", "\ud800"):
        assert model.toxicity(harmless) == 0


def test_a_trained_model_judges_by_its_labels() -> None:
    model = train(ROWS, "fine")
    rule = Toxicity(model, 0.5)
    assert model.toxicity("") == pytest.approx(0.5), "no evidence either way, whatever the share of toxic rows"
    assert rule.apply(document("you are a real idiot")) is None
    assert rule.apply(document("you are a real friend"))
    assert rule.apply(document("you are a real idiot", "code")), "code is not judged"
    with pytest.raises(ValueError, match=r"'neither'.*fine, insult"):
        train(ROWS, "neither")


def test_to_mention_a_group_is_not_toxic_though_insults_do() -> None:
    rows = [*ROWS, *((f"all {group} are idiots", "insult") for group in ("women", "Jews", "gay men") for _ in range(9))]
    model = train(rows, "fine")
    assert model.toxicity("all women are idiots") > 0.5
    assert max(map(model.toxicity, harmless_mentions())) < 0.5


def test_settings_name_rows_or_a_saved_model(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    settings = RuleSettings(toxicity_labels=str(labels), harmless_label="fine")
    trained = toxicity_model(settings)
    model = train(labelled_rows(labels), "fine")
    assert trained.toxicity(ENGLISH) == model.toxicity(ENGLISH)
    model.classifier.save(tmp_path / "model.safetensors")
    saved = toxicity_model(RuleSettings(toxicity_model=str(tmp_path / "model.safetensors"), harmless_label="fine"))
    assert saved.toxicity(ENGLISH) == model.toxicity(ENGLISH)
    assert isinstance(toxicity_model(RuleSettings()), WordList)


@pytest.mark.parametrize("line", ["{", '{"text": "a"}', "[1]"])
def test_rows_without_a_label_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n' + line)
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2"):
        list(labelled_rows(tmp_path / "rows.jsonl"))
    with pytest.raises(ValueError, match=r"none.jsonl"):
        list(labelled_rows(tmp_path / "none.jsonl"))

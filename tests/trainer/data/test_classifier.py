"""A linear classifier that learns, and stays what it is."""

from pathlib import Path
from random import Random

import numpy as np
import pytest

from trainer.data.classifier import LinearClassifier, features, softmax, train

COLOURS, BEASTS = ("red", "green", "blue", "white"), ("dog", "cat", "horse", "cow", "sheep")


def rows(seed: int, count: int) -> tuple[list[str], list[str]]:
    rng = Random(seed)
    labels = [rng.choice(["colour", "beast"]) for _ in range(count)]
    said = {"colour": COLOURS, "beast": BEASTS}
    return [f"there was a {rng.choice(said[label])} thing {rng.random()}" for label in labels], labels


def test_it_learns_what_tells_the_labels_apart_and_the_same_each_time(tmp_path: Path) -> None:
    classifier = train(*rows(0, 200))
    texts, labels = rows(1, 50)
    found = [classifier.labels[classifier.probabilities(text)[0].argmax()] for text in texts]
    assert found == labels
    assert (train(*rows(0, 200)).weights_FL == classifier.weights_FL).all()
    classifier.save(tmp_path / "saved.safetensors")
    loaded = LinearClassifier.load(tmp_path / "saved.safetensors")
    assert loaded.labels == classifier.labels
    assert (loaded.probabilities(texts[0]) == classifier.probabilities(texts[0])).all()


def test_a_long_text_is_judged_passage_by_passage() -> None:
    classifier = train(*rows(0, 200))
    beast = classifier.labels.index("beast")
    text = "the dog saw a horse and a cow ".ljust(400) + "red and green and blue are bright".ljust(400) + "a sheep"
    by_passage = [classifier.probabilities(text[start : start + 400])[0] for start in (0, 400, 800)]
    found = classifier.probabilities(text)
    assert (found[:, beast] > 0.5).tolist() == [True, False, True]
    assert found == pytest.approx(np.stack(by_passage), abs=0.05)
    assert classifier.probabilities(text * 200).shape == (-(-len(text * 200) // 400), 2)
    assert softmax(np.array([[1000.0, 0.0], [0.0, 0.0]])).sum(axis=1).tolist() == [1, 1]


def test_any_text_has_probabilities() -> None:
    classifier = train(["a b", ""], ["one", "other"])
    for text in ("", " ", "\x00", "\ud800", "字" * 1000):
        assert classifier.probabilities(text).sum(axis=1) == pytest.approx(1)
    assert all(len(found) == 0 for found in features(""))


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two labels"):
        train(["a"], ["only"])
    (tmp_path / "other.safetensors").write_text("{}")
    for name in ("other.safetensors", "none.safetensors"):
        with pytest.raises(ValueError, match=name):
            LinearClassifier.load(tmp_path / name)

"""Toxic text: a classifier trained on labelled rows, or else the list of words that better-profanity carries."""

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Protocol

import numpy as np

from trainer.data import classifier
from trainer.data.classifier import LinearClassifier, softmax
from trainer.data.hashing import Hashes, ngram_hashes
from trainer.data.rules.document import Document
from trainer.data.rules.mentions import harmless_mentions
from trainer.data.words import find_words

_WINDOW = 400  # characters
# The list holds names of people's identities and plain words too; to mention them is not toxic.
_HARMLESS = frozenset({
    "gay", "gays", "lesbians", "queer", "queers", "transsexual", "homo", "negro", "sex", "sexual", "kill",
    "god", "hell", "virgin", "breasts", "urine", "stroke", "strip", "pot", "weed", "thrust", "snatch",
    "screw", "knob", "lust", "opium", "heroin", "nude", "pasty", "pms", "pinko", "prude", "racy", "teat",
    "vomit", "womb", "hitler", "nazi", "menstruate", "menstruation", "uterus", "testes", "testicle", "penis",
    "vagina", "vulva", "ovary", "ovum",
})  # fmt: skip


class ToxicityModel(Protocol):
    def toxicity(self, text: str) -> float:
        """In [0, 1]: the mean, over passages of 400 characters, of how probably each is toxic."""
        ...


class Toxicity:
    """Drops text that is toxic throughout. Code is not judged: what it names says nothing of what it says."""

    name = "toxic"

    def __init__(self, model: ToxicityModel, largest: float) -> None:
        self.model = model
        self.largest = largest

    def apply(self, document: Document) -> Document | None:
        harmless = document.is_code or self.model.toxicity(document.text) <= self.largest
        return document if harmless else None


@dataclass(frozen=True)
class TrainedToxicity:
    """A classifier with several labels, of which one is for harmless text."""

    classifier: LinearClassifier
    harmless_label: str

    def __post_init__(self) -> None:
        _check_label(self.harmless_label, self.classifier.labels)

    def toxicity(self, text: str) -> float:
        """As if half of all texts were toxic: how many of the labelled rows are says nothing of other texts."""
        harmless = self.classifier.labels.index(self.harmless_label)
        prior = softmax(self.classifier.bias_L[None].astype(np.float64))[0, harmless]
        harmless_N = self.classifier.probabilities(text)[:, harmless]
        toxic_N = (1 - harmless_N) / (1 - prior)
        return float(np.mean(toxic_N / (toxic_N + harmless_N / prior)))


class WordList:
    """Each listed word in a passage halves the probability that it is harmless."""

    def toxicity(self, text: str) -> float:
        words = find_words(text)
        listed = np.concatenate([np.isin(ngram_hashes(words.hashes, n), _listed(n)) for n in (1, 2)])
        places = np.concatenate([words.starts, words.starts[:-1]])[listed]
        windows = np.bincount(places // _WINDOW, minlength=max(1, -(-len(text) // _WINDOW)))
        return float(1 - np.mean(0.5**windows))


@cache
def _listed(n: int) -> Hashes:
    """Hashes of the listed expressions of n words."""
    listing = resources.files("better_profanity").joinpath("profanity_wordlist.txt").read_text(encoding="utf-8")
    found = (find_words(line).hashes for line in listing.splitlines() if line.strip().lower() not in _HARMLESS)
    return np.concatenate([ngram_hashes(hashes, n) for hashes in found if len(hashes) == n])


def train(rows: Iterable[tuple[str, str]], harmless_label: str) -> TrainedToxicity:
    """From texts and their labels, and sentences that merely mention groups of people as harmless.

    Raises:
        ValueError: there are less than two labels, or none of them is the harmless one.
    """
    labelled = list(rows)
    _check_label(harmless_label, {label for _, label in labelled})
    known = [*labelled, *((text, harmless_label) for text in harmless_mentions())]
    return TrainedToxicity(classifier.train(*zip(*known, strict=True)), harmless_label)


def _check_label(harmless_label: str, labels: Collection[str]) -> None:
    if harmless_label not in labels:
        raise ValueError(
            f"no row is labelled '{harmless_label}', only {', '.join(sorted(labels))}; "
            "say in 'harmless_label' which of them is for text that is not toxic"
        )


def labelled_rows(path: Path) -> Iterator[tuple[str, str]]:
    """`text` and `label` of each row of a JSON Lines file, plain or in gzip.

    Raises:
        ValueError: the file is missing or damaged, or a row lacks one of the two.
    """
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    yield str(row["text"]), str(row["label"])
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"{path}, line {number}: a row needs 'text' and 'label'; repair it") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"labelled rows {path} cannot be read: {error}; correct 'toxicity_labels'") from error

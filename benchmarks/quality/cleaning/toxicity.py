"""The toxicity classifier: learnt from four fifths of labelled posts, measured on the rest and on harmless mentions."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality.cleaning.bars import judged, share
from benchmarks.quality.data import rows
from trainer.data.rules.mentions import harmless_mentions
from trainer.data.rules.toxicity import TrainedToxicity, train
from trainer.data.words import find_words
from trainer.job_settings import RuleSettings

HELD_BACK = 0.2
HARMLESS = "neither"
BAR = 0.9

# None of the sentences is learnt from; of the groups some are, in other sentences.
GROUPS = (
    "Arabs", "black people", "gay people", "immigrants", "Jews", "lesbians", "Mexicans", "Muslims", "refugees",
    "transgender people", "white people", "women", "Albanians", "asexual people", "blind people", "Buddhists",
    "deaf people", "Ethiopians", "Filipinos", "homeless people", "Iranians", "Kurds", "migrants", "Mormons",
    "Nigerians", "Protestants", "single mothers", "Sikhs", "teenagers", "trans women",
)  # fmt: skip
OF_GROUPS = (
    "The museum opened a room about the art of {}.",
    "Two {} won the chess tournament yesterday.",
    "Our hospital now has a doctor who speaks with {} about diabetes.",
    "I went to school with many {}.",
    "The film tells of three {} who travel across the country by train.",
    "Why do so few {} study physics?",
    "A law from 1964 gave {} the same rights at work.",
    "The mayor thanked {} for their help after the flood.",
)
PERSONS = (
    "black", "gay", "lesbian", "bisexual", "queer", "transgender", "Jewish", "Muslim", "Mexican", "Chinese", "deaf",
    "blind", "white", "female", "disabled", "Nigerian",
)  # fmt: skip
OF_PERSONS = (
    "My sister is {} and works as a nurse.",
    "He is the first {} judge of the state.",
    "She told her parents that she is {}.",
    "I am {} and I like to read.",
)


class Row(NamedTuple):
    id: str
    text: str
    label: str


def held_back(id: str) -> bool:
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:4], "big") < HELD_BACK * 2**32


def split(labelled: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """To learn from and to measure on; what was learnt is not measured again in other case or marks."""
    learnt = [row for row in labelled if not held_back(row.id)]
    known = {find_words(row.text).hashes.tobytes() for row in learnt}
    unseen = [row for row in labelled if held_back(row.id) and find_words(row.text).hashes.tobytes() not in known]
    return learnt, unseen


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """How often a positive scores higher than a negative; a tie counts half (Mann and Whitney)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left") + np.searchsorted(ordered, positive, side="right")
    return float(below.mean() / 2 / len(ordered))


def f1(guesses: Sequence[str], truths: Sequence[str], label: str) -> float:
    """2 TP / (2 TP + FP + FN) = 2 TP / (guessed + true)."""
    both = sum(guess == truth == label for guess, truth in zip(guesses, truths, strict=True))
    return 2 * both / (guesses.count(label) + truths.count(label))


def mentions() -> dict[str, list[str]]:
    """Sentences that merely mention people, by what of them the classifier has learnt from."""
    learnt = " ".join(harmless_mentions())
    plural = {group: [sentence.format(group) for sentence in OF_GROUPS] for group in GROUPS}
    return {
        "groups learnt as harmless": [text for group, all in plural.items() if group in learnt for text in all],
        "other groups": [text for group, all in plural.items() if group not in learnt for text in all],
        "single persons": [sentence.format(person) for sentence in OF_PERSONS for person in PERSONS],
    }


def flagged(model: TrainedToxicity, texts: Sequence[str], threshold: float) -> dict[str, Any]:
    """The share that the rule drops, the one that it would drop at 0.5, and the highest score."""
    scores = [model.toxicity(text) for text in texts]
    dropped = share(sum(score > threshold for score in scores), len(scores))
    return dropped | {"above 0.5": sum(score > 0.5 for score in scores), "highest": round(max(scores), 4)}


def on_posts(model: TrainedToxicity, unseen: Sequence[Row], threshold: float) -> dict[str, Any]:
    scores = [model.toxicity(row.text) for row in unseen]
    toxic = [score for score, row in zip(scores, unseen, strict=True) if row.label != HARMLESS]
    harmless = [score for score, row in zip(scores, unseen, strict=True) if row.label == HARMLESS]
    labels = model.classifier.labels
    guesses = [labels[int(model.classifier.probabilities(row.text).mean(axis=0).argmax())] for row in unseen]
    by_label = {label: round(f1(guesses, [row.label for row in unseen], label), 4) for label in labels}
    return {
        "AUC": round(auc(toxic, harmless), 5),
        "macro-F1": round(sum(by_label.values()) / len(by_label), 4),
        "F1": by_label,
        "toxic posts dropped": share(sum(score > threshold for score in toxic), len(toxic)),
        "harmless posts dropped": share(sum(score > threshold for score in harmless), len(harmless)),
    }


def measure(data: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures and bars."""
    labelled = [Row(row["id"], row["text"], row["label"]) for row in rows(data, "toxicity_tweets")]
    learnt, unseen = split(labelled)
    model = train([(row.text, row.label) for row in learnt], HARMLESS)
    threshold = RuleSettings().max_toxicity
    found: dict[str, Any] = {"threshold": threshold, "learnt": len(learnt), "measured": len(unseen)}
    found["repeats left out"] = len(labelled) - len(learnt) - len(unseen)
    found |= on_posts(model, unseen, threshold)
    sentences = mentions()
    found["mentions dropped"] = {
        kind: flagged(model, texts, threshold)
        for kind, texts in (sentences | {"all": [text for texts in sentences.values() for text in texts]}).items()
    }
    return found, [judged("toxicity, AUC", found["AUC"], ">=", BAR)]

"""Labelled examples: read, held back without leaks, and what a picker gets right on those held back."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from trainer.data.knowledge.words import terms
from trainer.intervals import wilson

FEWEST = 10  # examples of each kind, in what is learnt from and in what is held back
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_TEXTS, _ROWS = (".txt", ".md", ".tex"), (".jsonl", ".jsonl.gz")


class Example(NamedTuple):
    text: str
    positive: bool


def read_examples(path: Path, positive: Sequence[str]) -> Iterator[Example]:
    """Rows of a JSON Lines file with 'text' and 'label'; those whose label is one of `positive` belong to the domain.

    Raises:
        ValueError: the file is missing, or a row lacks a field; file and line are named.
    """
    for number, row in _rows(path):
        text, label = row.get("text"), row.get("label")
        if not isinstance(text, str) or label is None:
            raise ValueError(f"{path}, line {number}: an example needs a 'text' and a 'label'")
        yield Example(text, str(label) in positive)


def read_folder(folder: Path) -> Iterator[str]:
    """Texts of a folder: whole files, and 'text' of each row of JSON Lines files.

    Raises:
        ValueError: the folder is missing or holds no text.
    """
    empty = True
    for path in sorted(folder.rglob("*")):
        name = path.name.lower()
        if name.endswith(_TEXTS):
            found = [path.read_text(encoding="utf-8", errors="replace")]
        elif name.endswith(_ROWS):
            found = [str(row["text"]) for _, row in _rows(path) if "text" in row]
        else:
            continue
        empty = empty and not found
        yield from found
    if empty:
        raise ValueError(f"folder {folder} holds no text; give {', '.join(_TEXTS)} or JSON Lines with a 'text'")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give a JSON Lines file of examples")
    opener: Callable[..., IO[str]] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}; repair the file") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} is no JSON object with a 'text' and a 'label'")
            yield number, row


def hold_back(examples: Sequence[Example], share: float) -> tuple[list[Example], list[Example]]:
    """To learn from, and to measure on. All examples of the same words go to the same side, whatever their case and
    marks: else a repeated text would be measured after it was learnt.

    Raises:
        ValueError: too few of a kind are on a side.
    """
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        key = hashlib.sha256(" ".join(terms(example.text)).encode()).digest()
        sides[int.from_bytes(key[:4], "big") < share * 2**32].append(example)
    for side, purpose in zip(sides, ("learn from", "measure on"), strict=True):
        for positive, kind in ((True, "of the domain"), (False, "of others")):
            count = sum(example.positive == positive for example in side)
            if count < FEWEST:
                raise ValueError(f"there are {count} examples {kind} to {purpose}; at least {FEWEST} are needed")
    return sides


def measured(examples: Sequence[Example], score: Callable[[str], float], threshold: float) -> dict[str, Any]:
    """Precision and recall at a threshold with 95 % intervals, and at others; None where nothing was picked."""
    scores = [score(example.text) for example in examples]
    truths = [example.positive for example in examples]
    precision, recall = _rates(scores, truths, threshold)
    curve = []
    for other in THRESHOLDS:
        rates = _rates(scores, truths, other)
        curve.append({"threshold": other, "precision": rates[0] and rates[0][0], "recall": rates[1] and rates[1][0]})
    return {
        "examples": len(examples),
        "positive": sum(truths),
        "threshold": threshold,
        "precision": precision,
        "recall": recall,
        "by_threshold": curve,
    }


def _rates(
    scores: Sequence[float], truths: Sequence[bool], threshold: float
) -> tuple[list[float] | None, list[float] | None]:
    """[share, low, high] of what was picked that is right, and of what is right that was picked."""
    picked = [score >= threshold for score in scores]
    right = sum(both for both, truth in zip(picked, truths, strict=True) if truth)
    return _interval(right, sum(picked)), _interval(right, sum(truths))


def _interval(successes: int, n: int) -> list[float] | None:
    return [round(value, 4) for value in wilson(successes, n)] if n else None

"""Varied English-looking text of any size, with planted duplicates, written as JSON Lines."""

import json
import pydoc
from itertools import count
from pathlib import Path
from pydoc_data import topics
from random import Random

_SENTENCES = 200_000
_WORDS = (8, 20)  # of a sentence
_DUPLICATES = 0.05  # exact ones; as many near ones, with one sentence of about 25 exchanged
_KEPT = 500  # texts that duplicates are made of


def write_corpus(folder: Path, megabytes: float, files: int, seed: int = 0) -> int:
    """Write files of equal size together as large as asked for; returns the documents."""
    rng = Random(seed)
    sentences = _sentences(rng)
    documents = 0
    recent: list[list[str]] = []
    for number in range(files):
        with open(folder / f"{number:04d}.jsonl", "w", encoding="utf-8") as file:
            for _ in count():
                text = _text(rng, sentences, recent)
                file.write(json.dumps({"id": documents, "text": " ".join(text)}) + "\n")
                documents += 1
                if documents % 64 == 0 and file.tell() >= megabytes * 1e6 / files:
                    break
    return documents


def _sentences(rng: Random) -> list[str]:
    """Random words of the manual that Python carries, commoner ones more often."""
    words = [word for text in topics.topics.values() for word in pydoc.plain(text).split() if word.isalpha()]
    return [" ".join(rng.choices(words, k=rng.randint(*_WORDS))).capitalize() + "." for _ in range(_SENTENCES)]


def _text(rng: Random, sentences: list[str], recent: list[list[str]]) -> list[str]:
    if len(recent) == _KEPT and rng.random() < 2 * _DUPLICATES:
        text = list(rng.choice(recent))
        if rng.random() < 0.5:
            text[rng.randrange(len(text))] = rng.choice(sentences)
        return text
    text = rng.choices(sentences, k=rng.randint(10, 60))
    if len(recent) < _KEPT:
        recent.append(text)
    else:
        recent[rng.randrange(_KEPT)] = text
    return text

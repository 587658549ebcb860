"""Near-duplicates: edited copies are planted among real texts, and their true similarity says which must be found.

True is the Jaccard similarity of the sets of all runs of five words, counted exactly, without the product's hashes.
Each text has one copy: every other one is meant to be near (0.8 to 1), the rest not (0.2 to 0.8), evenly spread; what
counts is what it turned out to be. Copies just below 0.8 are near the bound by any estimate: those of 0.7 and more have
figures of their own, and the bar on false merges is about all other documents.
"""

import random
import re
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.cleaning.bars import judged, share
from benchmarks.quality.data import rows
from trainer.data.dedup.buckets import cluster
from trainer.data.dedup.clusters import apart, find
from trainer.data.dedup.columns import Column
from trainer.data.dedup.minhash import SHINGLE, accepted_from, band_keys, signature
from trainer.data.words import find_words

NEAR, BORDER = 0.8, 0.7
FOUND, FALSE = 0.95, 0.01
EDGES = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
FEWEST, MOST = 50, 60_000  # words that the rules ask of a text; characters, to keep the run short

Shingles = frozenset[tuple[str, ...]]


class Copy(NamedTuple):
    text: str
    edit: str


def texts(data: Path) -> Iterator[str]:
    """Web pages, drama, encyclopedia, LaTeX, and the standard library."""
    for name in ("text_en", "latex_science"):
        yield from (row["text"] for row in rows(data, name))
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        yield path.read_text(encoding="utf-8")


def shingles(text: str) -> Shingles:
    words = re.findall(r"[^\W_]+", text.lower())
    return frozenset(zip(*(words[offset:] for offset in range(SHINGLE)), strict=False))


def jaccard(first: Shingles, second: Shingles) -> float:
    return len(first & second) / len(first | second)


def replaced_words(words: list[str], aim: float, _: list[str], rng: random.Random) -> list[str]:
    """A word here and there; each is in five shingles."""
    count = max(1, round(len(words) * (1 - aim) / (SHINGLE * (1 + aim))))
    changed = list(words)
    for place in rng.sample(range(len(words)), min(count, len(words))):
        changed[place] = rng.choice(words)
    return changed


def shortened(words: list[str], aim: float, _: list[str], rng: random.Random) -> list[str]:
    kept = round(len(words) * aim)
    start = rng.randint(0, len(words) - kept)
    return words[start : start + kept]


def extended(words: list[str], aim: float, other: list[str], rng: random.Random) -> list[str]:
    """A piece of another text around it, as a page's frame."""
    added = other[: max(1, round(len(words) * (1 - aim) / aim))]
    head = rng.randint(0, len(added))
    return added[:head] + words + added[head:]


def replaced_passage(words: list[str], aim: float, other: list[str], rng: random.Random) -> list[str]:
    length = max(1, round(len(words) * (1 - aim) / (1 + aim)))
    start = rng.randint(0, len(words) - length)
    return words[:start] + other[:length] + words[start + length :]


Edit = Callable[[list[str], float, list[str], random.Random], list[str]]
EDITS: tuple[Edit, ...] = (replaced_words, shortened, extended, replaced_passage)


def copies(originals: Sequence[str], rng: random.Random) -> list[Copy]:
    """One of each text, the kinds of edits in turn."""
    made = []
    for number, text in enumerate(originals):
        aim = rng.uniform(NEAR, 1) if number % 2 == 0 else rng.uniform(0.2, NEAR)
        edit = EDITS[number // 2 % len(EDITS)]
        other = originals[number - 1].split()
        made.append(Copy(" ".join(edit(text.split(), aim, other, rng)), edit.__name__))
    return made


def clusters(documents: Sequence[str], folder: Path) -> NDArray[np.int64]:
    """The first document of each one's cluster [N], as the clean job finds it."""
    signatures_NP = np.stack([signature(find_words(text).hashes) for text in documents])
    np.save(folder / "signatures.npy", signatures_NP)
    np.save(folder / "keys.npy", band_keys(signatures_NP).T)
    root_N, signatures = apart(len(documents)), Column([folder / "signatures.npy"])
    for band in range(len(np.load(folder / "keys.npy", mmap_mode="r"))):
        cluster(Column([folder / "keys.npy"], band), signatures, accepted_from(NEAR), root_N)
    return find(root_N, np.arange(len(documents)))


def compared(originals: Sequence[str], planted: Sequence[Copy]) -> dict[str, Any]:
    """A false merge is a document dropped for one that it is less than 0.8 like: the first of its cluster."""
    documents = [*originals, *(copy.text for copy in planted)]
    with tempfile.TemporaryDirectory() as folder:
        root_N = clusters(documents, Path(folder))
    sets, count = [shingles(text) for text in documents], len(originals)
    true_N = np.array([jaccard(sets[place], sets[count + place]) for place in range(count)])
    merged_N = root_N[count:] == root_N[:count]
    dropped = np.flatnonzero(root_N != np.arange(len(documents)))
    wrong = {int(place) for place in dropped if jaccard(sets[place], sets[root_N[place]]) < NEAR}
    border = {int(place) + count for place in np.flatnonzero((true_N >= BORDER) & (true_N < NEAR))}
    edits_N, near_N = np.array([copy.edit for copy in planted]), true_N >= NEAR
    return {
        "found": share(int(merged_N[near_N].sum()), int(near_N.sum())),
        "found by edit": {
            edit.__name__: share(int(merged_N[mine_N].sum()), int(mine_N.sum()))
            for edit in EDITS
            if (mine_N := near_N & (edits_N == edit.__name__)).any()
        },
        "falsely merged": share(len(wrong - border), len(documents) - len(border)),
        "originals falsely merged": sum(place < count for place in wrong),
        "falsely merged, copies at 0.7 to 0.8 too": share(len(wrong), len(documents)),
        "merged by true Jaccard": by_similarity(true_N, merged_N),
    }


def by_similarity(true_N: NDArray[np.float64], merged_N: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """How many copies there are in each range of similarity to their original, and how many are merged with it."""
    place_N = np.searchsorted(EDGES[1:-1], true_N, side="right")
    ranges = pairwise(EDGES)
    return {
        f"{low} to {high}": {"copies": int((place_N == place).sum()), "merged": int(merged_N[place_N == place].sum())}
        for place, (low, high) in enumerate(ranges)
    }


def measure(data: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures and bars."""
    originals = [text for text in texts(data) if len(text) <= MOST and len(find_words(text)) >= FEWEST]
    found = compared(originals, copies(originals, random.Random(0)))
    false = f"documents falsely merged, but for copies at {BORDER} to {NEAR}"
    bars = [
        judged("near-duplicates found", found["found"]["share"], ">=", FOUND),
        judged(false, found["falsely merged"]["share"], "<=", FALSE),
    ]
    return {"originals": len(originals)} | found, bars

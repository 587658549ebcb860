"""Text that repeats itself, by the thresholds of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1)."""

import re
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.data.hashing import Hashes
from trainer.data.rules.document import Document
from trainer.data.words import Places, Words
from trainer.spec import DOMAINS, Domain

LINES, LINE_CHARACTERS = 0.3, 0.2
PARAGRAPHS, PARAGRAPH_CHARACTERS = 0.3, 0.2
TOP_RUNS = {2: 0.2, 3: 0.18, 4: 0.16}  # n -> largest share of characters in the most frequent run of n words
REPEATED_RUNS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1}  # n -> ... in runs that came before

_PARAGRAPHS = re.compile(r"\n\s*\n")
_PAIR = np.uint64(0xD6E8FEB86659FD93)
_CODE_LINE = 20


class DuplicateLines:
    """Drops text with too many repeated lines or paragraphs, by their number or their characters. Code repeats short
    lines by nature (`else:`, `)`), so there only lines of a statement's length count."""

    name = "duplicate lines"

    def __init__(self, largest_share: float = LINES) -> None:
        self.largest_share = largest_share

    def apply(self, document: Document) -> Document | None:
        lines = document.lines
        if document.is_code:
            lines = [line for line in lines if len(line) >= _CODE_LINE]
        of_number, of_characters = repeated_shares(lines)
        return document if of_number <= self.largest_share and of_characters <= LINE_CHARACTERS else None


class DuplicateParagraphs:
    name = "duplicate paragraphs"

    def apply(self, document: Document) -> Document | None:
        parts = [part for raw in _PARAGRAPHS.split(document.text) if (part := raw.strip())]
        of_number, of_characters = repeated_shares(parts)
        return document if of_number <= PARAGRAPHS and of_characters <= PARAGRAPH_CHARACTERS else None


class RepeatedWords:
    """Drops text of which too many characters lie in one frequent run of 2 to 4 words, or in runs of 5 to 10 words that
    came before. Shares are of the characters in words.

    Args:
        domains: those that are looked at. The thresholds were set on prose; half of all LaTeX and a third of all code
            passes them.
    """

    name = "repeated words"

    def __init__(self, domains: Collection[Domain] = DOMAINS) -> None:
        self.domains = domains

    def apply(self, document: Document) -> Document | None:
        if document.record.domain not in self.domains:
            return document
        return None if is_repetitive(document.words) else document


def repeated_shares(parts: list[str]) -> tuple[float, float]:
    """Of all parts, and of all their characters, the share of those that are equal to an earlier one."""
    distinct = set(parts)
    if len(distinct) == len(parts):
        return 0.0, 0.0
    characters = sum(map(len, parts))
    return 1 - len(distinct) / len(parts), 1 - sum(map(len, distinct)) / characters


def is_repetitive(words: Words) -> bool:
    """Whether any threshold for runs of words is passed."""
    for n, starts, groups in repeated_runs(words.hashes):
        if n in TOP_RUNS and top_run_characters(words, starts, groups, n) > TOP_RUNS[n] * words.characters:
            return True
        if n in REPEATED_RUNS and run_characters(words, starts, groups, n) > REPEATED_RUNS[n] * words.characters:
            return True
    return False


def repeated_runs(hashes: Hashes) -> Iterator[tuple[int, Places, Places]]:
    """For n = 2, 3, ... 10: where the runs of n words begin that occur more than once, in order, and a number for each
    distinct run. Ends where there are none.

    A run of n + 1 words occurs twice only if both runs of n words in it do, so each n looks at what n - 1 left.
    """
    pairs = hashes[:-1] * _PAIR + hashes[1:]
    starts, groups = _repeated(np.arange(len(pairs)), pairs)
    for n in range(2, max(REPEATED_RUNS) + 1):
        if len(starts) == 0:
            return
        yield n, starts, groups
        joined = np.flatnonzero(np.diff(starts) == 1)
        starts, groups = _repeated(starts[joined], groups[joined] * (groups.max() + 1) + groups[joined + 1])


def top_run_characters(words: Words, starts: Places, groups: Places, n: int) -> int:
    """Characters in all occurrences of the most frequent run of n words; of equally frequent ones the longest."""
    times = np.bincount(groups)
    most = times.max()
    frequent = starts[times[groups] == most]
    return int(most * (words.offsets[frequent + n] - words.offsets[frequent]).max())


def run_characters(words: Words, starts: Places, groups: Places, n: int) -> int:
    """Characters of the words in any run of n words that came before, each word counted once."""
    first_of_group = np.empty(groups.max() + 1, np.int64)
    first_of_group[groups[::-1]] = starts[::-1]  # the earliest is written last
    later = starts[starts != first_of_group[groups]]
    widths = np.minimum(n, np.diff(later, append=len(words)))
    return int((words.offsets[later + widths] - words.offsets[later]).sum())


def _repeated(starts: Places, keys: Hashes | NDArray[np.int64]) -> tuple[Places, Places]:
    """The starts whose key others have too, and a number for each distinct key."""
    order = np.argsort(keys)
    ordered = keys[order]
    distinct = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(keys)])
    sizes = np.diff(distinct, append=len(keys))
    groups = np.full(len(keys), -1)
    groups[order] = np.repeat(np.where(sizes > 1, np.arange(len(sizes)), -1), sizes)
    several = groups >= 0
    return starts[several], groups[several]

"""Duplicates: the same text again, and nearly the same text again (MinHash with locality-sensitive hashing)."""

import hashlib

from rensa import RMinHash, RMinHashLSH

from trainer.spec import Record

_PERMUTATIONS, _BANDS = 128, 16  # of 8 rows: a pair at Jaccard 0.8 meets in some band with probability 0.95
_SHINGLE = 5  # words
_SEED = 1


class ExactDuplicate:
    """Drops a text that came before, white space aside."""

    name = "exact duplicate"

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def apply(self, record: Record) -> Record | None:
        digest = hashlib.sha256(" ".join(record.text.split()).encode()).digest()
        if digest in self._seen:
            return None
        self._seen.add(digest)
        return record


class NearDuplicate:
    """Drops a text whose 5-word shingles have an estimated Jaccard similarity to an earlier one above a threshold.

    Candidates share a band of the signature; the full signatures then decide. Text without spaces between words is
    cut into shingles of characters.
    """

    name = "near duplicate"

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._index = RMinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        self._signatures: list[RMinHash] = []

    def apply(self, record: Record) -> Record | None:
        signature = RMinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        signature.update(shingles(record.text))
        candidates = self._index.query(signature)
        if any(signature.jaccard(self._signatures[other]) >= self.threshold for other in candidates):
            return None
        self._index.insert(len(self._signatures), signature)
        self._signatures.append(signature)
        return record


def shingles(text: str) -> list[str]:
    """Runs of 5 words in lower case; of 5 characters where words are not set apart; the whole of a shorter text."""
    parts = text.lower().split()
    if len(text) > 20 * len(parts):
        parts = list("".join(parts))
    count = max(1, len(parts) - _SHINGLE + 1)
    return [" ".join(parts[start : start + _SHINGLE]) for start in range(count)]

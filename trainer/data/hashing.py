"""Hashes of 64 bits that are the same in every process and on every machine, whole arrays at a time."""

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiples of it are spread evenly
_FOLD = np.uint64(0xD6E8FEB86659FD93)


def mix(values: Hashes) -> Hashes:
    """A bijection after which each bit depends on all bits: the finaliser of SplitMix64 (Steele et al., 2014)."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def ngram_hashes(word_hashes: Hashes, n: int) -> Hashes:
    """Hashes of all runs of n words, [W] -> [W - n + 1]; none where there are fewer than n words."""
    if len(word_hashes) < n:
        return word_hashes[:0]
    count = len(word_hashes) - n + 1
    folded = word_hashes[:count].copy()
    for offset in range(1, n):
        folded *= _FOLD
        folded += word_hashes[offset : offset + count]
    return mix(folded)

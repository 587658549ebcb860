"""The sketch against an obvious one in plain integers, and the laws of probability it must keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.dedup.minhash import BANDS, CELLS, SHINGLE, accepted_from, band_keys, signature, similarity
from trainer.data.hashing import Hashes, mix, ngram_hashes

MASK = 2**64 - 1
words = st.lists(st.integers(0, MASK), max_size=40)


def mixed(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def plain_ngrams(hashes: list[int], n: int) -> list[int]:
    found = []
    for start in range(len(hashes) - n + 1):
        folded = 0
        for word in hashes[start : start + n]:
            folded = (folded * 0xD6E8FEB86659FD93 + word) & MASK
        found.append(mixed(folded))
    return found


def plain_signature(hashes: list[int]) -> list[int]:
    """One round after the other, one shingle after the other, until no cell is empty."""
    shingles = plain_ngrams(hashes, min(SHINGLE, len(hashes))) if hashes else [0]
    cells: dict[int, int] = {}
    number = 0
    while len(cells) < CELLS:
        found: dict[int, int] = {}
        for shingle in shingles:
            thrown = mixed(shingle + number * 0x9E3779B97F4A7C15 & MASK)
            cell, value = thrown >> 56, thrown & 0xFFFFFFFF
            found[cell] = min(value, found.get(cell, value))
        cells = found | cells
        number += 1
    return [cells[cell] for cell in range(CELLS)]


def array(hashes: list[int]) -> Hashes:
    return np.array(hashes, dtype=np.uint64)


@given(words, st.integers(1, 13))
def test_hashes_of_runs_are_those_of_plain_integers(hashes: list[int], n: int) -> None:
    assert ngram_hashes(array(hashes), n).tolist() == plain_ngrams(hashes, n)


@settings(max_examples=15, deadline=None)
@given(words)
def test_the_sketch_is_that_of_plain_integers(hashes: list[int]) -> None:
    assert signature(array(hashes)).tolist() == plain_signature(hashes)


@pytest.mark.parametrize("count", [700, 5000])
def test_so_is_that_of_a_long_document(count: int) -> None:
    hashes = np.random.default_rng(count).integers(0, MASK, count, dtype=np.uint64)
    assert signature(hashes).tolist() == plain_signature(hashes.tolist())


@pytest.mark.parametrize("common", [20, 200, 4000])
@pytest.mark.parametrize("jaccard", [0.5, 0.8])
def test_the_estimate_is_unbiased_and_as_sharp_as_that_of_permutations(common: int, jaccard: float) -> None:
    """Pairs of sets, given as words of which each run is a shingle of its own: both hold the common beginning."""
    rng = np.random.default_rng(0)
    extra = round(common * (1 / jaccard - 1))
    estimates = []
    for _ in range(60):
        shared = rng.integers(0, MASK, common + SHINGLE - 1, dtype=np.uint64)
        longer = np.concatenate([shared, rng.integers(0, MASK, extra, dtype=np.uint64)])
        estimates.append(similarity(signature(shared), signature(longer)))
    true = common / (common + extra)
    deviation = (true * (1 - true) / CELLS) ** 0.5
    assert abs(np.mean(estimates) - true) < 4 * deviation / 60**0.5
    assert np.std(estimates) < 1.3 * deviation


def test_keys_agree_where_a_whole_band_does_and_only_there() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2**32, CELLS, dtype=np.uint32)
    second = first.copy()
    second[:: CELLS // BANDS] += np.uint32(1)  # one cell of every band
    second[: CELLS // BANDS] = first[: CELLS // BANDS]
    keys = band_keys(np.stack([first, second]))
    assert keys.shape == (2, BANDS)
    assert (keys[0] == keys[1]).nonzero()[0].tolist() == [0]
    alike = band_keys(np.zeros((1, CELLS), np.uint32))
    assert len(np.unique(alike)) == BANDS, "bands of equal cells have different keys"


def test_more_is_accepted_than_the_threshold_says_by_the_estimate_s_error() -> None:
    assert accepted_from(1.0) == 1.0
    assert 0.75 < accepted_from(0.8) < 0.77
    assert mix(array([0])).tolist() == [0]

"""Near-duplicates by MinHash: what a document's shingles look like in a fixed number of cells.

The sketch is that of Dahlgaard, Knudsen and Thorup, *Fast Similarity Sketching* (arXiv:1704.04370): a round throws each
shingle into one cell, where the smallest hash stays; further rounds fill only the cells that are still empty. A
cell of two documents agrees with probability J, their Jaccard similarity, as in MinHash with P permutations, but a long
document costs one hash a shingle instead of P.

Legend: N documents, W words, S shingles, P cells, B bands, R rows of a band.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trainer.data.hashing import GOLDEN, Hashes, mix, ngram_hashes

CELLS = 256
BANDS = 32  # of 8 rows: a pair at J = 0.8 shares a band with probability 0.997, one at 0.5 with 0.12
SHINGLE = 5  # words

Signature = NDArray[np.uint32]

_EMPTY = np.uint64(2**64 - 1)
_THROWS = 8 * CELLS  # of so many, e^-8 of the cells stay empty
_TO_CELL = np.uint64(56)  # the highest 8 bits of a hash name one of 256 cells
_CONFIDENCE = 1.645  # standard deviations: 95 % of a one-sided normal distribution


def signature(word_hashes: Hashes) -> Signature:
    """The sketch [P] of a document given as hashes of its words [W], in order.

    Fewer words than a shingle has are one shingle; documents without a word all have the same sketch.
    """
    shingles_S = ngram_hashes(word_hashes, min(SHINGLE, len(word_hashes))) if len(word_hashes) else np.zeros(1, "u8")
    # Of a cell's throws the smallest (round, hash) stays; cell, round and hash in one number make that a minimum.
    smallest_P = np.full(CELLS, _EMPTY)
    first, rounds = 0, max(1, math.ceil(_THROWS / len(shingles_S)))
    while (smallest_P == _EMPTY).any():
        round_R1 = np.arange(first, first + rounds, dtype=np.uint64)[:, None]
        hashes_RS = mix(shingles_S + round_R1 * GOLDEN)
        cells_RS = hashes_RS >> _TO_CELL << _TO_CELL
        thrown = (cells_RS | round_R1 << np.uint64(32) | (hashes_RS & np.uint64(0xFFFFFFFF))).ravel()
        thrown.sort()
        cells = (thrown >> _TO_CELL).astype(np.int64)
        firsts = np.flatnonzero(np.diff(cells, prepend=-1))
        smallest_P[cells[firsts]] = np.minimum(smallest_P[cells[firsts]], thrown[firsts])
        first += rounds
    return smallest_P.astype(np.uint32)


def band_keys(signatures_NP: Signature) -> Hashes:
    """Keys [N, B]: documents that share a key, in the same column, agree in all cells of that band."""
    rows_NBR = signatures_NP.reshape(len(signatures_NP), BANDS, CELLS // BANDS).astype(np.uint64)
    keys_NB = np.arange(BANDS, dtype=np.uint64) * GOLDEN + np.zeros((len(rows_NBR), 1), np.uint64)
    for row in range(rows_NBR.shape[2]):
        keys_NB = mix(keys_NB + rows_NBR[:, :, row])
    return keys_NB


def similarity(first_P: Signature, second_P: Signature) -> float:
    """The estimated Jaccard similarity; at J its standard deviation is sqrt(J (1 - J) / P), 0.025 at 0.8."""
    return float(np.mean(first_P == second_P))


def accepted_from(jaccard: float) -> float:
    """The least estimate that is taken as a near-duplicate, so that 95 % of the pairs at just `jaccard` are found."""
    return jaccard - _CONFIDENCE * math.sqrt(jaccard * (1 - jaccard) / CELLS)

"""The bucketed pass: documents that share a key are candidates, their signatures decide.

Candidates cost at most `_ALL_PAIRS` comparisons each: in a large bucket of equal keys documents are compared with a few
representatives instead of with one another.

Legend: N documents, M documents of a part in order of their keys, K members of one bucket, E pairs, P cells.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.data.dedup.clusters import Places, find, join
from trainer.data.dedup.columns import Column

_ALL_PAIRS = 32  # members of a bucket up to which all its pairs are compared
_REPRESENTATIVES = 64  # of a larger one
_PART = 1 << 22  # documents sorted at once
_PAIRS = 1 << 12  # pairs whose signatures are read at once

Mask = NDArray[np.bool_]


def cluster(keys: Column, signatures: Column, least: float, root_N: Places) -> None:
    """Join the documents that share a key and agree in at least a share `least` of the cells of their signatures.

    Args:
        root_N: clusters so far, added to; documents that are together already are not compared again.
    """
    for places_M, keys_M in _parts(keys):
        for pairs_E2 in _small_buckets(places_M, keys_M):
            join(root_N, pairs_E2[_alike(pairs_E2, signatures, least, root_N)])
        for members_K in _large_buckets(places_M, keys_M):
            _join_to_representatives(members_K, signatures, least, root_N)


def _parts(keys: Column) -> Iterator[tuple[Places, NDArray[np.uint64]]]:
    """Documents that share their key with others, in order of key and place; equal keys are in the same part."""
    parts = len(keys) // _PART + 1
    for part in range(parts):
        places, values = [], []
        for start, block in keys.blocks():
            mine = np.flatnonzero(block % np.uint64(parts) == part)
            places.append(mine + start)
            values.append(block[mine])
        if not places:
            return
        places_M, keys_M = np.concatenate(places), np.concatenate(values)
        order_M = np.argsort(keys_M, kind="stable")
        places_M, keys_M = places_M[order_M], keys_M[order_M]
        same_M = np.zeros(len(keys_M) + 1, bool)  # as the one before
        same_M[1:-1] = keys_M[1:] == keys_M[:-1]
        shared_M = same_M[:-1] | same_M[1:]
        yield places_M[shared_M], keys_M[shared_M]


def _runs(keys_M: NDArray[np.uint64]) -> tuple[Places, Places]:
    """Start and length of each run of equal keys."""
    starts = np.flatnonzero(np.diff(keys_M, prepend=~keys_M[:1]))
    return starts, np.diff(starts, append=len(keys_M))


def _small_buckets(places_M: Places, keys_M: NDArray[np.uint64]) -> Iterator[Places]:
    """All pairs of the small buckets, [E, 2]: first each member and the next one, then the one after that …"""
    _, lengths = _runs(keys_M)
    small_M = np.repeat(lengths <= _ALL_PAIRS, lengths)
    places_M, keys_M = places_M[small_M], keys_M[small_M]
    for lag in range(1, _ALL_PAIRS):
        first = np.flatnonzero(keys_M[lag:] == keys_M[:-lag])
        if not len(first):
            return
        for start in range(0, len(first), _PAIRS):
            chunk = first[start : start + _PAIRS]
            yield np.stack([places_M[chunk], places_M[chunk + lag]], axis=1)


def _large_buckets(places_M: Places, keys_M: NDArray[np.uint64]) -> Iterator[Places]:
    starts, lengths = _runs(keys_M)
    for large in np.flatnonzero(lengths > _ALL_PAIRS):
        yield places_M[starts[large] : starts[large] + lengths[large]]


def _join_to_representatives(members_K: Places, signatures: Column, least: float, root_N: Places) -> None:
    """The first member represents all that are like it; of those left the first is the next representative."""
    for _ in range(_REPRESENTATIVES):
        if len(members_K) < 2:
            return
        pairs_E2 = np.stack([np.full(len(members_K) - 1, members_K[0]), members_K[1:]], axis=1)
        alike_E = _alike(pairs_E2, signatures, least, root_N)
        join(root_N, pairs_E2[alike_E])
        members_K = members_K[1:][~alike_E]


def _alike(pairs_E2: Places, signatures: Column, least: float, root_N: Places) -> Mask:
    """Which pairs are together already, or have signatures that agree well enough."""
    alike_E: Mask = find(root_N, pairs_E2[:, 0]) == find(root_N, pairs_E2[:, 1])
    unknown = np.flatnonzero(~alike_E)
    for start in range(0, len(unknown), _PAIRS):
        chunk = unknown[start : start + _PAIRS]
        first_EP, second_EP = signatures.take(pairs_E2[chunk, 0]), signatures.take(pairs_E2[chunk, 1])
        alike_E[chunk] = np.mean(first_EP == second_EP, axis=1) >= least
    return alike_E

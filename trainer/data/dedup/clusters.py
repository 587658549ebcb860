"""Clusters of documents as one number each: somebody earlier in the same cluster, or the document itself if it is the
first. All work is on whole arrays; N documents cost 8 N bytes.

Legend: N documents, K places looked at, E edges.
"""

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


def apart(count: int) -> Places:
    """Each of so many documents in a cluster of its own."""
    return np.arange(count, dtype=np.int64)


def find(root_N: Places, places_K: Places) -> Places:
    """The first document of each place's cluster; shortens the ways there, so `root_N` changes but says the same."""
    found_K = root_N[places_K]
    while True:
        further_K = root_N[found_K]
        if np.array_equal(further_K, found_K):
            return found_K
        # Every place asked for moves two steps on at once: a chain of n is walked in log n rounds.
        root_N[places_K] = further_K
        found_K = further_K


def join(root_N: Places, edges_E2: Places) -> None:
    """Put the two ends of each edge into one cluster; the earlier of two first documents stays first."""
    while len(edges_E2):
        first_E, second_E = find(root_N, edges_E2[:, 0]), find(root_N, edges_E2[:, 1])
        open_E = first_E != second_E
        edges_E2, first_E, second_E = edges_E2[open_E], first_E[open_E], second_E[open_E]
        np.minimum.at(root_N, np.maximum(first_E, second_E), np.minimum(first_E, second_E))


def edges(root_N: Places) -> Places:
    """As few edges [E, 2] as give these clusters again, the earlier document first."""
    later_E = np.flatnonzero(root_N != np.arange(len(root_N)))
    return np.stack([root_N[later_E], later_E], axis=1)

"""Clusters on whole arrays against a walk through the graph."""

import numpy as np
import pytest

from trainer.data.dedup.clusters import apart, edges, find, join


def first_of_each(count: int, pairs: np.ndarray) -> np.ndarray:
    """Slow and obvious: everybody takes the smaller number of any neighbour until nobody changes."""
    first = list(range(count))
    while True:
        before = list(first)
        for a, b in pairs.tolist():
            first[a] = first[b] = min(first[a], first[b])
        if first == before:
            return np.array(first)


@pytest.mark.parametrize("count", [1, 10, 200])
@pytest.mark.parametrize("density", [0.2, 0.6, 2.0])
def test_joined_in_any_portions_the_first_of_each_cluster_is_found(count: int, density: float) -> None:
    rng = np.random.default_rng(count)
    pairs = rng.integers(0, count, (int(density * count), 2))
    root = apart(count)
    for portion in np.array_split(pairs, 3):
        join(root, portion)
    assert (find(root, np.arange(count)) == first_of_each(count, pairs)).all()


def test_a_long_chain_is_one_cluster() -> None:
    count = 50_000
    links = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
    root = apart(count)
    join(root, np.random.default_rng(0).permutation(links))
    assert (find(root, np.arange(count)) == 0).all()


def test_edges_give_the_same_clusters_again_with_less_than_one_for_each_document() -> None:
    rng = np.random.default_rng(1)
    root, again = apart(300), apart(300)
    join(root, rng.integers(0, 300, (250, 2)))
    found = edges(root)
    assert len(found) < 300
    assert (found[:, 0] < found[:, 1]).all()
    join(again, found)
    assert (find(again, np.arange(300)) == find(root, np.arange(300))).all()

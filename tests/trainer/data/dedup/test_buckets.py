"""The bucketed pass against a look at all pairs; columns over several files against one array."""

from pathlib import Path

import numpy as np
import pytest

from trainer.data.dedup.buckets import cluster
from trainer.data.dedup.clusters import apart, find, join
from trainer.data.dedup.columns import ArrayWriter, Column

CELLS = 16


def column(folder: Path, name: str, numbers: np.ndarray, cuts: tuple[int, ...] = ()) -> Column:
    """An array as a column in several files."""
    paths = []
    for place, part in enumerate(np.split(numbers, cuts)):
        paths.append(folder / f"{name}-{place}.npy")
        np.save(paths[-1], part)
    return Column(paths)


class Counting(Column):
    """A column that counts the rows taken from it."""

    taken = 0

    def take(self, places_K: np.ndarray) -> np.ndarray:
        self.taken += len(places_K)
        return super().take(places_K)


def planted(rng: np.random.Generator, count: int, families: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and signatures of documents of a few families that differ from their family's in some cells."""
    family = rng.integers(0, families, count)
    signatures = rng.integers(0, 2**32, (families, CELLS), dtype=np.uint32)[family]
    changed = rng.random((count, CELLS)) < 0.08
    signatures[changed] = rng.integers(0, 2**32, int(changed.sum()), dtype=np.uint32)
    return (family * 3 + rng.integers(0, 3, count)).astype(np.uint64), signatures


def all_pairs(keys: np.ndarray, signatures: np.ndarray, least: float) -> np.ndarray:
    root = apart(len(keys))
    for first in range(len(keys)):
        for second in range(first):
            if keys[first] == keys[second] and np.mean(signatures[first] == signatures[second]) >= least:
                join(root, np.array([[second, first]]))
    return find(root, np.arange(len(keys)))


@pytest.mark.parametrize(("count", "families"), [(2, 1), (150, 40), (300, 12)])
def test_small_buckets_are_clustered_as_all_their_pairs_say(tmp_path: Path, count: int, families: int) -> None:
    keys, signatures = planted(np.random.default_rng(count), count, families)
    assert np.unique(keys, return_counts=True)[1].max() <= 32
    root, cuts = apart(count), (count // 3, count // 2)
    cluster(column(tmp_path, "keys", keys, cuts), column(tmp_path, "signatures", signatures, cuts), 0.8, root)
    assert (find(root, np.arange(count)) == all_pairs(keys, signatures, 0.8)).all()


def test_a_large_bucket_is_not_compared_pair_by_pair(tmp_path: Path) -> None:
    """Three texts, each a thousand times, under one key: three clusters at the price of three representatives."""
    rng = np.random.default_rng(0)
    kind = np.concatenate([[0, 1, 2], rng.integers(0, 3, 3_000)])
    np.save(tmp_path / "signatures.npy", rng.integers(0, 2**32, (3, CELLS), dtype=np.uint32)[kind])
    signatures, root = Counting([tmp_path / "signatures.npy"]), apart(len(kind))
    cluster(column(tmp_path, "keys", np.full(len(kind), 7, np.uint64)), signatures, 0.8, root)
    assert (find(root, np.arange(len(kind))) == kind).all()
    assert signatures.taken <= 2 * 3 * len(kind)


def test_what_is_together_already_is_not_compared_again(tmp_path: Path) -> None:
    np.save(tmp_path / "signatures.npy", np.zeros((40, CELLS), np.uint32))
    keys, signatures = (
        column(tmp_path, "keys", np.arange(40, dtype=np.uint64) // 4),
        Counting([tmp_path / "signatures.npy"]),
    )
    root = apart(40)
    cluster(keys, signatures, 1.0, root)
    once = signatures.taken
    assert once > 0
    cluster(keys, signatures, 1.0, root)
    assert signatures.taken == once


def test_no_documents_have_no_clusters(tmp_path: Path) -> None:
    nothing = column(tmp_path, "keys", np.zeros(0, np.uint64))
    cluster(nothing, column(tmp_path, "signatures", np.zeros((0, CELLS), np.uint32)), 0.8, apart(0))


def test_a_column_over_files_is_the_files_one_after_the_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 100, (90, 3), dtype=np.uint32)
    found = column(tmp_path, "rows", rows, (0, 20, 20, 75))
    places = rng.integers(0, 90, 200)
    assert len(found) == 90
    assert (found.take(places) == rows[places]).all()
    assert (np.concatenate([block for _, block in found.blocks()]) == rows).all()


def test_an_array_written_in_portions_reads_as_one(tmp_path: Path) -> None:
    rows = np.arange(3_000, dtype=np.uint32).reshape(-1, 2)
    with ArrayWriter(tmp_path / "rows.npy", np.uint32, 2) as writer:
        for portion in np.array_split(rows, 7):
            writer.append(portion)
    assert (np.load(tmp_path / "rows.npy", mmap_mode="r") == rows).all()
    with ArrayWriter(tmp_path / "none.npy", np.uint32, 2):
        pass
    assert np.load(tmp_path / "none.npy").shape == (0, 2)

"""The second pass: some of the keys of all shards' documents, and what they say of duplicates.

A folder of it holds exact.npy and near.npy, [E, 2] int64: pairs of documents, by their place in the global order, that
are the same text or nearly so. They are a spanning forest, so there is less than one a document.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from trainer.data.dedup.buckets import cluster
from trainer.data.dedup.clusters import apart, edges
from trainer.data.dedup.columns import Column
from trainer.data.dedup.minhash import BANDS, accepted_from
from trainer.spec import CleanSpec


def write_edges(
    spec: CleanSpec, bucket: int, shards: Sequence[Path], folder: Path, report: Callable[[int, int], None]
) -> None:
    """Look through the keys of one bucket job: every so many of them, the first of which are those of whole texts.

    Args:
        report: called with the keys done and all there are before each of them; may end the work by an exception.
    """
    signatures = Column([shard / "signatures.npy" for shard in shards])
    exact_N, near_N = apart(len(signatures)), apart(len(signatures))
    rows = range(bucket, 1 + BANDS, len(spec.bucket_roles))
    for done, row in enumerate(rows):
        report(done, len(rows))
        keys = Column([shard / "keys.npy" for shard in shards], row)
        if row == 0:
            cluster(keys, signatures, 1.0, exact_N)
        else:
            cluster(keys, signatures, accepted_from(spec.rules.near_duplicate_jaccard), near_N)
    np.save(folder / "exact.npy", edges(exact_N))
    np.save(folder / "near.npy", edges(near_N))

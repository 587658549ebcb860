"""Some of the buckets of a clean job: leaves artifacts/edges/."""

from collections.abc import Sequence
from pathlib import Path

from trainer.artifacts import Run, is_complete, new_folder
from trainer.data.cleaning.buckets import write_edges
from trainer.data.stopping import reporter, stoppable
from trainer.spec import CleanBucketSpec, CleanSpec


def run(spec: CleanBucketSpec, run: Run) -> None:
    with stoppable():
        shards = [run.input(role).artifact("shard") for role in spec.required]
        make_bucket(spec.clean, spec.bucket, shards, run.folder.artifacts / "edges", run)


def make_bucket(spec: CleanSpec, bucket: int, shards: Sequence[Path], folder: Path, run: Run) -> None:
    """The folder of a bucket job, unless it is there from an earlier attempt."""
    if not is_complete(folder):
        what = f"looking for duplicates, {bucket + 1} of {len(spec.bucket_roles)}"
        with new_folder(folder) as partial:
            write_edges(spec, bucket, shards, partial, reporter(run, what, "keys"))

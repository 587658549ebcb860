"""One shard of a clean job: leaves artifacts/shard/."""

from pathlib import Path

from trainer.artifacts import Run, is_complete, new_folder
from trainer.data.cleaning.shard import write_shard
from trainer.data.stopping import reporter, stoppable
from trainer.spec import CleanShardSpec, CleanSpec


def run(spec: CleanShardSpec, run: Run) -> None:
    with stoppable():
        make_shard(spec.clean, spec.shard, run.folder.artifacts / "shard", run)


def make_shard(spec: CleanSpec, shard: int, folder: Path, run: Run) -> None:
    """The folder of a shard, unless it is there from an earlier attempt."""
    if not is_complete(folder):
        with new_folder(folder) as partial:
            write_shard(spec, shard, partial, reporter(run, f"shard {shard + 1} of {spec.shards}", "kB", 1_000))

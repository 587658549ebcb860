"""Clean: read sources, apply the rules, write what is left, and account for every drop.

Shard and bucket jobs may have done the first two passes (`backend/jobs/family.py` makes them); else they run here, one
after the other, and what they leave is thrown away at the end.
"""

import shutil
from pathlib import Path

from trainer.artifacts import Run, is_complete, new_folder
from trainer.data.cleaning.merge import write_documents
from trainer.data.stopping import reporter, stoppable
from trainer.spec import CleanSpec
from trainer.stages.clean_bucket import make_bucket
from trainer.stages.clean_shard import make_shard


def run(spec: CleanSpec, run: Run) -> None:
    documents, scratch = run.folder.artifacts / "documents", run.folder.path / "passes"
    with stoppable():
        if not is_complete(documents):
            shards, buckets = _inputs(spec, run) if run.folder.job().inputs else _made_here(spec, run, scratch)
            with new_folder(documents) as folder:
                result = write_documents(spec, shards, buckets, folder, reporter(run, "putting together", "documents"))
                # Before COMPLETE: documents that are there have their account.
                run.folder.write_result(result)
            kept, read = result["documents"]["kept"], result["documents"]["read"]
            run.log(f"kept {kept} of {read} documents; dropped: {result['dropped']}; skipped: {result['skipped']}")
        shutil.rmtree(scratch, ignore_errors=True)


def _inputs(spec: CleanSpec, run: Run) -> tuple[list[Path], list[Path]]:
    shards = [run.input(role).artifact("shard") for role in spec.shard_roles]
    return shards, [run.input(role).artifact("edges") for role in spec.bucket_roles]


def _made_here(spec: CleanSpec, run: Run, scratch: Path) -> tuple[list[Path], list[Path]]:
    shards = [scratch / role for role in spec.shard_roles]
    for number, shard in enumerate(shards):
        make_shard(spec, number, shard, run)
    buckets = [scratch / role for role in spec.bucket_roles]
    for number, bucket in enumerate(buckets):
        make_bucket(spec, number, shards, bucket, run)
    return shards, buckets

"""A clean job in shards: the same bytes from one process, from child jobs, and after a death in the middle."""

import json
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from trainer.artifacts import Run, RunFolder, folder_hashes, read_jsonl
from trainer.data.cleaning.account import Account
from trainer.data.dedup.minhash import accepted_from, similarity
from trainer.data.sources import Skipped
from trainer.spec import CleanBucketSpec, CleanShardSpec, CleanSpec, Job, JobSpec, Record, RuleSettings
from trainer.stages import clean, clean_bucket, clean_shard

WORDS = [f"{start}{end}" for start in ("har", "sal", "win", "bro", "tim") for end in ("bour", "ted", "der", "ken")]
RULES = RuleSettings(order=("words", "entropy"))  # random words are no prose
STAGES = {"clean": clean, "clean_shard": clean_shard, "clean_bucket": clean_bucket}
# Dies without a word at the first record of shard 1.
DYING = """
import os, signal, sys
from trainer.artifacts import Run, RunFolder
from trainer.stages import clean, clean_shard
write = clean_shard.write_shard
def dying(spec, shard, folder, report):
    def die(done, total):
        os.kill(os.getpid(), signal.SIGKILL)
    write(spec, shard, folder, die if shard == 1 else report)
clean_shard.write_shard = dying
folder = RunFolder(sys.argv[1])
clean.run(folder.job().spec, Run(folder))
"""


def corpus(folder: Path) -> Path:
    """Eight files with texts of their own, the same text in several, and nearly the same."""
    rng = Random(0)
    texts = [" ".join(rng.choices(WORDS, k=120)) for _ in range(40)]
    texts += texts[:6] + [f"{text} {rng.choice(WORDS)}" for text in texts[6:12]] + ["too short"] * 3
    rng.shuffle(texts)
    folder.mkdir()
    for number in range(8):
        rows = [{"text": text, "lang": "en"} for text in texts[number::8]]
        lines = [json.dumps(row) for row in rows] + ["{broken"] * (number % 2)
        (folder / f"{number}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> CleanSpec:
    folder = corpus(tmp_path_factory.mktemp("clean") / "corpus")
    return CleanSpec(name="clean", python_installation=False, folders=(str(folder),), shards=3, rules=RULES)


@pytest.fixture(scope="module")
def alone(spec: CleanSpec, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What one process makes of it."""
    return go(tmp_path_factory.mktemp("alone") / "run", spec)


def go(path: Path, spec: JobSpec, **inputs: RunFolder) -> RunFolder:
    folder = RunFolder(path)
    bound = {role.replace("_", "-"): str(source.path) for role, source in inputs.items()}
    folder.write_job(Job(id=path.name, spec=spec, inputs=bound))
    STAGES[spec.kind].run(spec, Run(folder))
    return folder


def same(first: RunFolder, second: RunFolder) -> bool:
    documents = [folder_hashes(run.artifact("documents")) for run in (first, second)]
    return documents[0] == documents[1] and first.result() == second.result()


def test_child_jobs_in_any_order_make_the_same_bytes_as_one_process(
    spec: CleanSpec, alone: RunFolder, tmp_path: Path
) -> None:
    parts: dict[str, RunFolder] = {}
    for number in (2, 0, 1):
        job = CleanShardSpec(name="shard", clean=spec, shard=number)
        parts[f"shard_{number:03d}"] = go(tmp_path / f"shard-{number}", job)
    shards = dict(parts)
    for number in (1, 2, 0):
        inputs = {role.replace("_", "-"): "run:x" for role in shards}
        bucket = CleanBucketSpec(name="bucket", clean=spec, bucket=number, inputs=inputs)
        parts[f"bucket_{number:03d}"] = go(tmp_path / f"bucket-{number}", bucket, **shards)
    merged = go(tmp_path / "merged", spec, **parts)
    assert same(alone, merged)
    assert not (alone.path / "passes").exists()


def test_killed_in_the_middle_and_started_again_it_makes_the_same_bytes(
    spec: CleanSpec, alone: RunFolder, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.write_job(Job(id="run", spec=spec))
    died = subprocess.run([sys.executable, "-c", DYING, str(folder.path)], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL
    finished = folder.path / "passes" / "shard-000" / "COMPLETE"
    before = finished.stat().st_mtime_ns
    assert not (folder.path / "passes" / "shard-001").exists()
    assert not (folder.artifacts / "documents").exists()
    clean_shard_marks: list[int] = []
    original = clean_shard.make_shard

    def watched(spec: CleanSpec, shard: int, path: Path, run: Run) -> None:
        original(spec, shard, path, run)
        clean_shard_marks.append((path / "COMPLETE").stat().st_mtime_ns)

    clean.make_shard, unwatched = watched, clean.make_shard
    try:
        clean.run(spec, Run(folder))
    finally:
        clean.make_shard = unwatched
    assert clean_shard_marks[0] == before, "what was finished is not done again"
    assert same(alone, folder)


def test_counts_add_up_and_duplicates_are_found_across_shards(spec: CleanSpec, alone: RunFolder) -> None:
    result = alone.result()
    read, kept = result["documents"]["read"], result["documents"]["kept"]
    assert (read, result["skipped"]) == (55, {"row is not JSON": 4})
    assert read == kept + sum(result["dropped"].values())
    assert result["dropped"] | {"too few words": 3, "exact duplicate": 6, "near duplicate": 6} == result["dropped"]
    assert {name: len(found) for name, found in result["skipped_examples"].items()} == {"row is not JSON": 3}
    assert [len(result["examples"][name]) for name in ("too few words", "exact duplicate", "near duplicate")] == [3] * 3
    documents = [row for path in sorted(alone.artifact("documents").glob("part-*")) for row in read_jsonl(path, Record)]
    assert len(documents) == kept == sum(result["lengths"]["counts"]) == 40
    assert result["characters"] == sum(len(row.text) for row in documents) == sum(result["sources"].values())
    assert result["bytes"] == sum(len(row.text.encode()) for row in documents)
    assert result["shares"] == {"general": 1.0}


def test_of_duplicates_however_far_around_the_first_in_order_stays(
    spec: CleanSpec, alone: RunFolder, tmp_path: Path
) -> None:
    """All pairs of all shards' documents, compared one by one."""
    records: list[Record] = []
    sketches = []
    for number in range(spec.shards):
        shard = go(tmp_path / str(number), CleanShardSpec(name="shard", clean=spec, shard=number)).artifact("shard")
        records += read_jsonl(shard / "documents.jsonl", Record)
        sketches += list(np.load(shard / "signatures.npy"))
    least = accepted_from(spec.rules.near_duplicate_jaccard)
    pairs = combinations(range(len(records)), 2)
    alike = [(one, other) for one, other in pairs if similarity(sketches[one], sketches[other]) >= least]
    first = list(range(len(records)))
    for _ in range(4):  # joined around so many corners at most
        for one, other in alike:
            first[one] = first[other] = min(first[one], first[other])
    expected = [record.id for place, record in enumerate(records) if first[place] == place]
    paths = sorted(alone.artifact("documents").glob("part-*"))
    assert [record.id for path in paths for record in read_jsonl(path, Record)] == expected


def test_a_source_with_one_file_is_read_up_to_its_whole_limit_whatever_the_shards(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    rows = [" ".join(Random(number).choices(WORDS, k=200)) for number in range(20)]
    (tmp_path / "corpus" / "all.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    limit = sum(len(row) for row in rows[:10]) / 1_000_000
    base = {"name": "clean", "python_installation": False, "folders": [str(tmp_path / "corpus")], "rules": RULES}
    for shards in (1, 4):
        job = CleanSpec.model_validate(base | {"max_megabytes": limit, "shards": shards})
        assert go(tmp_path / str(shards), job).result()["documents"]["read"] == 10


def test_accounts_of_parts_add_up_and_the_larger_part_gives_more_examples() -> None:
    def part(dropped: int, name: str) -> Account:
        examples = [{"source": name, "text": str(number)} for number in range(3)]
        return Account(read=dropped + 1, dropped={"short": dropped}, examples={"short": examples})

    from_large = 0
    for seed in range(200):
        together = Account.together([part(900, "large"), part(100, "small")], seed)
        assert (together.read, together.dropped) == (1_002, {"short": 1_000})
        from_large += sum(example["source"] == "large" for example in together.examples["short"])
    assert 0.75 < from_large / 600 < 0.97
    account = Account()
    for number in range(5):
        account.skip(Skipped("damaged", f"file {number}"))
    assert (account.skipped, len(account.skipped_examples["damaged"])) == ({"damaged": 5}, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {"shard-000": "run:a"}}, "input 'shard-001' is missing; bind all shards and buckets, or none"),
        ({"shards": 1, "inputs": {"shard-000": "run:a"}}, "unknown input 'shard-000'; it takes none"),
    ],
)
def test_a_clean_job_reads_all_its_parts_or_none(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CleanSpec.model_validate({"name": "clean", "shards": 3} | change)


def test_a_part_that_is_none_of_the_job_is_refused() -> None:
    job = CleanSpec(name="clean", shards=2)
    with pytest.raises(ValueError, match="shard 2 is none of the 2 from 0 on"):
        CleanShardSpec(name="shard", clean=job, shard=2)
    with pytest.raises(ValueError, match="input 'shard-000' is missing"):
        CleanBucketSpec(name="bucket", clean=job, bucket=0)

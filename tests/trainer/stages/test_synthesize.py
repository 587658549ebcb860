"""The synthesize stage: three files of problems and their account."""

from collections import Counter
from pathlib import Path

import pytest

from trainer.artifacts import Run, RunFolder, folder_hashes, read_jsonl
from trainer.spec import Job, Problem, SynthesizeSpec
from trainer.stages import synthesize

SPEC = SynthesizeSpec(name="synthesize", train=130, rl=70, heldout=26)


def start(path: Path, job: SynthesizeSpec = SPEC) -> Run:
    folder = RunFolder(path)
    folder.write_job(Job(id=path.name, spec=job))
    return Run(folder)


def test_files_and_account_agree_and_share_no_problem(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    synthesize.run(SPEC, run)
    folder, result = run.folder.artifact("problems"), run.folder.result()
    splits = {split: list(read_jsonl(folder / f"{split}.jsonl", Problem)) for split in ("train", "rl", "heldout")}
    assert result["problems"] == {"train": 130, "rl": 70, "heldout": 26}
    for split, problems in splits.items():
        assert result["families"][split] == Counter(problem.family for problem in problems)
    assert len({problem.id for problems in splits.values() for problem in problems}) == 226
    mistakes = Counter(
        wrong.mistake for problem in splits["train"] + splits["heldout"] for wrong in problem.distractors
    )
    assert result["mistakes"] == mistakes
    assert result["rejected"] == {}


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    hashes = []
    for name, job in (("a", SPEC), ("b", SPEC), ("c", SPEC.model_copy(update={"seed": 1}))):
        run = start(tmp_path / name, job)
        synthesize.run(job, run)
        hashes.append(folder_hashes(run.folder.artifact("problems")))
    assert hashes[0] == hashes[1] != hashes[2]


def test_too_few_problems_or_a_stop_leave_nothing(tmp_path: Path) -> None:
    job = SPEC.model_copy(update={"families": ("exterior_angle",), "levels": (1,), "train": 50_000})
    run = start(tmp_path / "few", job)
    with pytest.raises(ValueError, match="'exterior_angle' has too few"):
        synthesize.run(job, run)
    assert list(run.folder.artifacts.iterdir()) == []
    stopped = start(tmp_path / "stopped")
    stopped.stop_requested = True
    synthesize.run(SPEC, stopped)
    assert list(stopped.folder.artifacts.iterdir()) == []

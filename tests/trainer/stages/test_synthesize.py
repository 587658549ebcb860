"""The synthesize stage: three files of problems and their account."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.artifacts import Run, RunFolder, folder_hashes, new_folder, read_jsonl
from trainer.data.synthesis import sampling
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


def test_any_number_of_processes_gives_the_same_bytes(tmp_path: Path) -> None:
    job = SPEC.model_copy(update={"families": ("linear_equation", "addition", "midpoint"), "heldout_wordings": 1})
    outcomes = []
    for processes in (1, 2):
        run = start(tmp_path / str(processes), job.model_copy(update={"processes": processes}))
        synthesize.run(run.folder.job().spec, run)
        outcomes.append((folder_hashes(run.folder.artifact("problems")), run.folder.result()))
    assert outcomes[0] == outcomes[1]


def evaluation(path: Path, right: dict[str, float], each: int = 20) -> RunFolder:
    """What an evaluate job leaves: of each family's `each` problems of level 1 a share was right."""
    folder = RunFolder(path)
    with new_folder(folder.artifacts / "answers") as target:
        lines = [
            {"family": family, "level": 1, "correct": n < share * each, "prompt": "not read here"}
            for family, share in right.items()
            for n in range(each)
        ]
        (target / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_more_is_drawn_where_the_network_is_weak(tmp_path: Path) -> None:
    right = {"addition": 1.0, "linear_equation": 0.0, "midpoint": 0.5}
    job = SynthesizeSpec(
        name="synthesize", families=tuple(right), levels=(1,), train=600, rl=60, heldout=30, adaptive_floor=0.3,
        inputs={"evaluation": "evaluate"},
    )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    inputs = {"evaluation": str(evaluation(tmp_path / "evaluate", right).path)}
    folder.write_job(Job(id="run", spec=job, inputs=inputs))
    synthesize.run(job, Run(folder))
    result = folder.result()
    weak = {"addition": 1 / 22, "linear_equation": 21 / 22, "midpoint": 0.5}
    for split, total in (("train", 600), ("rl", 60)):
        for family, count in result["families"][split].items():
            assert abs(count - total * (0.1 + 0.7 * weak[family] / sum(weak.values()))) <= 1
    assert set(result["families"]["heldout"].values()) == {10}
    assert result["adaptive"]["floor"] == 0.3
    assert sum(share for levels in result["adaptive"]["shares"].values() for share in levels.values()) == pytest.approx(
        1
    )


def test_an_evaluation_of_other_families_is_refused(tmp_path: Path) -> None:
    job = SPEC.model_copy(update={"families": ("midpoint",), "inputs": {"evaluation": "evaluate"}})
    folder = RunFolder(tmp_path / "run")
    inputs = {"evaluation": str(evaluation(tmp_path / "evaluate", {"addition": 0.5}).path)}
    folder.write_job(Job(id="run", spec=job, inputs=inputs))
    with pytest.raises(ValueError, match="asked none of these families and levels"):
        synthesize.run(job, Run(folder))


@given(
    st.dictionaries(st.tuples(st.text("abc", min_size=1), st.integers(1, 5)), st.floats(0.01, 1), min_size=1),
    st.floats(0, 1),
    st.integers(0, 500),
)
def test_shares_sum_to_one_keep_the_floor_and_are_reached(
    weakness: dict[tuple[str, int], float], floor: float, count: int
) -> None:
    share = sampling.shares(weakness, floor)
    assert sum(share.values()) == pytest.approx(1)
    assert min(share.values()) >= floor / len(share) - 1e-12
    reached = Counter(sampling.in_proportion(share, count))
    assert reached.total() == count
    assert all(abs(reached[cell] - value * count) < 1 + 1e-6 for cell, value in share.items())

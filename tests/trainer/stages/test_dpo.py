"""DPO: it prefers what it is told to, never leaves the KL bound, and survives being killed."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer import arithmetic
from trainer.alignment.answers import encode_prompts
from trainer.alignment.kl_bound import INSIDE, fresh_generator, measure_kl
from trainer.artifacts import Run, RunFolder, new_folder, write_jsonl
from trainer.model.mixtral import load_model
from trainer.spec import DpoSpec, Pair
from trainer.stages import dpo
from trainer.stages.reward import batch_numbers, distractor_pairs

SPEC: dict[str, Any] = {
    "kind": "dpo",
    "name": "dpo",
    "steps": 12,
    "batch_pairs": 16,
    "check_every": 4,
    "max_kl": 0.1,
    "max_new_tokens": 24,
    "snapshot_every": 6,
    "compile": False,
    "precision": "fp32",
    "optimizer": {"lr": 3e-4, "warmup": 0.0, "weight_decay": 0.0},
}
GENTLE = {"max_kl": 1.0}
WILD = {"optimizer": {"lr": 1e-2, "warmup": 0.0}}


def candidate_pairs() -> list[Pair]:
    train = [p for i, p in enumerate(arithmetic.problems()) if i % arithmetic.HELD_OUT]
    return distractor_pairs(train, 64, seed=0)


def pairs_run(path: Path, pairs: list[Pair] | None = None) -> RunFolder:
    folder = RunFolder(path)
    with new_folder(folder.artifacts / "pairs") as target:
        write_jsonl(target / "pairs.jsonl", candidate_pairs() if pairs is None else pairs)
    return folder


def new_run(path: Path, **changes: Any) -> Run:
    return arithmetic.new_run(path, {**SPEC, **changes}, pairs=pairs_run(path.with_name(path.name + "-pairs")))


def train(run: Run) -> RunFolder:
    spec = run.folder.job().spec
    assert isinstance(spec, DpoSpec)
    dpo.run(spec, run)
    return run.folder


def test_of_a_tie_it_learns_nothing(tmp_path: Path) -> None:
    tie = candidate_pairs()[0].model_copy(update={"id": "tie", "preference": 0.5})
    run = arithmetic.new_run(tmp_path / "dpo", SPEC, pairs=pairs_run(tmp_path / "pairs", [*candidate_pairs(), tie]))
    kept = dpo.read_pairs(run, arithmetic.tokenizer(), 256)
    assert [pair.id for pair in kept] == [pair.id for pair in candidate_pairs()]


@pytest.mark.parametrize("change", [{"loss": "ipo", "beta": 0.5}, {"label_smoothing": 0.1}])
def test_every_loss_comes_to_prefer_the_chosen_answers(tmp_path: Path, change: dict[str, Any]) -> None:
    margins = arithmetic.metric_rows(train(new_run(tmp_path / "dpo", **GENTLE, **change)), "margin")
    assert margins[-1] > margins[0] == 0


def test_ipo_takes_no_label_smoothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label_smoothing is for loss 'sigmoid'"):
        new_run(tmp_path / "dpo", loss="ipo", label_smoothing=0.1)


def test_it_comes_to_prefer_the_chosen_answers_without_losing_them(tmp_path: Path) -> None:
    folder = train(new_run(tmp_path / "dpo", **GENTLE, steps=20, likelihood_weight=1.0))
    margins = arithmetic.metric_rows(folder, "margin")
    assert margins[0] == pytest.approx(0, abs=1e-3)
    assert sum(margins[-5:]) / 5 > 0.02
    assert sum(arithmetic.metric_rows(folder, "accuracy")[-5:]) / 5 > 0.6
    assert folder.result()["displacement"] > 0
    assert not folder.result()["displacement_alarm"]
    assert folder.result()["steps"] == 20


def test_what_is_released_lies_inside_the_bound_however_wild_the_steps(tmp_path: Path) -> None:
    folder = train(new_run(tmp_path / "dpo", **WILD))
    result = folder.result()
    assert result["retreats"] > 0
    assert result["beta"] == 0.1 * 2 ** result["retreats"]
    assert result["lr_scale"] < 1
    assert result["kl_interval"][1] <= SPEC["max_kl"]
    released = load_model(folder.checkpoint())
    prompts = encode_prompts(arithmetic.tokenizer(), [pair.prompt for pair in candidate_pairs()])
    numbers = batch_numbers(len(prompts), dpo.KL_PROMPTS, result["steps"], 0)
    measured = measure_kl(
        released,
        arithmetic.policy(),
        arithmetic.tokenizer(),
        [prompts[i] for i in numbers],
        max_new_tokens=24,
        generator=fresh_generator(0, result["steps"], 1, torch.device("cpu")),
    )
    assert measured.high <= SPEC["max_kl"]
    assert measured == pytest.approx((result["kl"], *result["kl_interval"]), abs=1e-5)


def test_a_breach_goes_back_doubles_beta_and_trains_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train(new_run(tmp_path / "dpo", optimizer={"lr": 2e-3, "warmup": 0.0}))
    result, out = folder.result(), capsys.readouterr().out
    assert 0 < result["retreats"] <= dpo.MAX_RETREATS
    assert result["steps"] == SPEC["steps"]
    assert "back to step 0, beta 0.2, 1.0 of the learning rate" in out


@pytest.mark.parametrize("changes", [GENTLE, {"optimizer": {"lr": 2e-3, "warmup": 0.0}}])
@pytest.mark.parametrize("step", [3, 7])
def test_a_killed_run_resumed_leaves_the_very_bytes_of_one_that_was_not(
    tmp_path: Path, changes: dict[str, Any], step: int
) -> None:
    twin = train(new_run(tmp_path / "twin", **changes))
    run = new_run(tmp_path / "killed", **changes)
    with pytest.raises(arithmetic.Killed):
        train(arithmetic.DiesAt(run.folder, step))
    train(Run(run.folder))
    assert arithmetic.weights_of(run.folder) == arithmetic.weights_of(twin)
    mine, other = run.folder.result(), twin.result()
    assert {k: v for k, v in mine.items() if k != "train_seconds"} == {
        k: v for k, v in other.items() if k != "train_seconds"
    }


def test_a_run_asked_to_stop_releases_nothing_and_goes_on_later(tmp_path: Path) -> None:
    twin = train(new_run(tmp_path / "twin", **GENTLE))
    run = new_run(tmp_path / "stopped", **GENTLE)
    train(arithmetic.StopsAt(run.folder, 5))
    assert not run.folder.checkpoints.exists()
    assert run.folder.result() == {}
    train(Run(run.folder))
    assert arithmetic.weights_of(run.folder) == arithmetic.weights_of(twin)


def test_displaced_answers_raise_one_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = new_run(tmp_path / "dpo")
    loop = dpo.Loop(run, run.folder.job().spec, torch.nn.Linear(1, 1), memory=dpo.new_memory(run.folder.job().spec))  # type: ignore[arg-type]
    for displacement, expected in ((0.5, 0.0), (-2.0, 1.0), (-2.0, 1.0), (5.0, 0.0)):
        metrics = {"displacement": displacement}
        dpo.watch_displacement(loop, metrics)
        assert metrics["displacement_alarm"] == expected
    assert capsys.readouterr().out.count("alarm at step 0") == 1
    assert loop.memory[INSIDE] is True

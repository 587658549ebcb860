"""The loop's laws: resumed equals uninterrupted, schedules, what a stop and a bad loss leave behind."""

from pathlib import Path

import pytest
import torch

from tests.trainer import tiny
from trainer.artifacts import Run, complete_steps
from trainer.engine.checkpoint import load_snapshot
from trainer.engine.loop import Loop, learning_rate
from trainer.engine.loss_scaling import LARGEST
from trainer.engine.precision import place
from trainer.spec import Optimizer, SftSpec

SHAPE = tiny.config(intermediate_size=32)  # widths that fp8 takes
LOUD = 100.0  # makes the first gradients overflow in fp16; clipping makes it no matter otherwise
SPEC = {
    "kind": "sft",
    "name": "sft",
    "model": SHAPE.model_dump(),
    "steps": 12,
    "snapshot_every": 3,
    "compile": False,
}


def a_run(path: Path, precision: str = "fp32", optimizer: str = "adamw") -> tuple[Run, SftSpec]:
    spec_values = {**SPEC, "precision": precision, "optimizer": {"lr": 0.01, "name": optimizer}}
    run = tiny.new_run(path, spec_values, {"dataset": tiny.RunFolder(path.parent)})
    spec = run.folder.job().spec
    assert isinstance(spec, SftSpec)
    return run, spec


def train(run: Run, spec: SftSpec, die_at: int | None = None) -> Loop:
    """Noise regression that draws from the loop's generator; `die_at` leaves without a word, like kill -9."""
    model = place(tiny.network(SHAPE), spec.precision, torch.device("cpu"))
    loop = Loop(run, spec, model, memory={"sum": 0})
    for step in loop.steps():
        if step == die_at:
            break
        tokens = torch.randint(tiny.VOCABULARY, (2, 16), generator=loop.generator)
        loop.memory["sum"] += int(tokens.sum())
        loop.update(LOUD * model.logits(model(tokens).hidden_BLD).square().mean(), {})
    return loop


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "fp8"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("die_at", [1, 3, 8, 11])
def test_a_killed_and_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, precision: str, optimizer: str, die_at: int
) -> None:
    whole = train(*a_run(tmp_path / "whole", precision, optimizer))
    run, spec = a_run(tmp_path / "broken", precision, optimizer)
    train(run, spec, die_at=die_at)
    resumed = train(run, spec)
    assert resumed.loss_scale == whole.loss_scale
    assert precision != "fp16" or whole.loss_scale.value < LARGEST, "no step overflowed: nothing was tested"
    assert resumed.memory == whole.memory
    for name, weight in whole.optimizer.weights().items():
        assert torch.equal(weight, resumed.optimizer.weights()[name]), name
    rows = [path.read_text().splitlines() for path in (tmp_path / "whole/metrics.jsonl", run.folder.metrics_file)]
    assert [row.split('"values"')[1] for row in rows[0]] == [row.split('"values"')[1] for row in rows[1]]


def test_restore_goes_back_to_the_last_snapshot(tmp_path: Path) -> None:
    run, spec = a_run(tmp_path / "run")
    loop = train(run, spec, die_at=6)
    before = {name: weight.clone() for name, weight in loop.optimizer.weights().items()}
    loop.snapshot()
    loop.update(sum(p.square().sum() for p in loop.model.parameters()), {})  # type: ignore[arg-type]
    loop.restore()
    assert loop.step == 6
    for name, weight in loop.optimizer.weights().items():
        assert torch.equal(weight, before[name])


def test_a_damaged_snapshot_is_passed_over_for_the_one_before(tmp_path: Path) -> None:
    run, spec = a_run(tmp_path / "run")
    train(run, spec)
    newest = complete_steps(run.folder.volatile)[-1]
    (newest / "state.safetensors").write_bytes(b"half")
    found = load_snapshot(run.folder.volatile)
    assert found is not None
    assert found[1]["step"] == 9


def test_a_loss_that_is_no_number_names_the_remedy_and_keeps_the_snapshot(tmp_path: Path) -> None:
    run, spec = a_run(tmp_path / "run")
    loop = train(run, spec, die_at=4)
    with pytest.raises(ValueError, match=r"loss is nan at step 4.*optimizer\.lr"):
        loop.update(torch.tensor(float("nan")), {})
    assert complete_steps(run.folder.volatile)


def test_a_request_to_stop_saves_the_step_and_ends(tmp_path: Path) -> None:
    run, spec = a_run(tmp_path / "run")
    run.stop_requested = True
    train(run, spec)
    assert [path.name for path in complete_steps(run.folder.volatile)] == ["step_000000"]


def test_the_schedule_warms_up_stays_and_decays_to_zero() -> None:
    settings = Optimizer(lr=1.0, warmup=0.1, decay=0.4)
    shares = [0.0, 0.05, 0.1, 0.5, 0.6, 0.8, 1.0]
    assert [round(learning_rate(settings, share), 6) for share in shares] == [0, 0.5, 1, 1, 1, 0.5, 0]

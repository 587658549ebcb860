"""GRPO: the ratio starts at one, groups without signal teach nothing, the bound holds, a kill changes nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer import arithmetic
from tests.trainer.stages.test_reward import untrained_run
from trainer.alignment.kl_bound import INSIDE, fresh_generator
from trainer.artifacts import Run, RunFolder, read_jsonl
from trainer.model.mixtral import load_model
from trainer.objectives import grpo_advantages
from trainer.rewards.composite import Parts, composite_reward
from trainer.spec import RewardWeights, RlhfSpec
from trainer.stages import rlhf

SPEC: dict[str, Any] = {
    "kind": "rlhf",
    "name": "rlhf",
    "steps": 12,
    "prompts_per_step": 12,
    "group_size": 6,
    "max_new_tokens": 24,
    "snapshot_every": 5,
    "max_kl": 2.0,
    "compile": False,
    "precision": "fp32",
    "optimizer": {"lr": 2e-3, "warmup": 0.0, "weight_decay": 0.0},
}
WILD = {"optimizer": {"lr": 3e-2, "warmup": 0.0}, "max_kl": 0.1}


def spec_of(run: Run) -> RlhfSpec:
    spec = run.folder.job().spec
    assert isinstance(spec, RlhfSpec)
    return spec


def train(run: Run) -> RunFolder:
    rlhf.run(spec_of(run), run)
    return run.folder


def new_run(path: Path, **changes: Any) -> Run:
    inputs = {"checkpoint": changes.pop("checkpoint")} if "checkpoint" in changes else {}
    return arithmetic.new_run(path, {**SPEC, **changes}, **inputs)


def samples(folder: RunFolder) -> list[rlhf.RolloutRow]:
    return list(read_jsonl(folder.artifacts / "rollouts.jsonl", rlhf.RolloutRow))


def rollout_of(spec: RlhfSpec) -> rlhf.Rollout:
    generator = fresh_generator(0, 0, 0, torch.device("cpu"))
    return rlhf.collect(spec, arithmetic.policy(), arithmetic.tokenizer(), arithmetic.problems()[:24], generator)


def test_more_answers_are_right_after_it_than_before(tmp_path: Path) -> None:
    only_correctness = {"coherence": 0, "diversity": 0, "safety": 0}
    changes = {"prompts_per_step": 16, "group_size": 8, "optimizer": {**SPEC["optimizer"], "lr": 1e-3}}
    folder = train(new_run(tmp_path / "rlhf", steps=30, weights=only_correctness, **changes))
    curve = arithmetic.metric_rows(folder, "reward/correctness")
    assert sum(curve[-8:]) / 8 > sum(curve[:8]) / 8 + 0.04


def test_the_ratio_is_exactly_one_and_the_decoder_agrees_with_training(tmp_path: Path) -> None:
    folder = train(new_run(tmp_path / "rlhf"))
    assert set(arithmetic.metric_rows(folder, "ratio_error")) == {0.0}
    assert max(arithmetic.metric_rows(folder, "mismatch")) < 1e-3
    assert arithmetic.metric_rows(folder, "kl")[0] == pytest.approx(0, abs=1e-6)
    names = ("correctness", "coherence", "diversity", "safety", "total")
    assert all(len(arithmetic.metric_rows(folder, f"reward/{name}")) == SPEC["steps"] for name in names)


def test_a_temperature_is_part_of_the_policy(tmp_path: Path) -> None:
    folder = train(new_run(tmp_path / "rlhf", temperature=0.7, steps=2))
    assert max(arithmetic.metric_rows(folder, "mismatch")) < 1e-3


def test_only_groups_whose_correctness_varies_are_kept_and_advantages_stay_in_their_group(tmp_path: Path) -> None:
    spec = spec_of(new_run(tmp_path / "rlhf"))
    rollout = rollout_of(spec)
    correct_GK = torch.tensor([p.correctness for p in rollout.parts]).view(24, spec.group_size)
    for kept, correct_K in zip(rollout.kept_G.tolist(), correct_GK.tolist(), strict=True):
        assert kept == (0 < sum(correct_K) < len(correct_K))
    assert 0 < rollout.kept_G.sum() < 24
    rewards = torch.tensor([composite_reward(p, spec.weights) for p in rollout.parts]).view(24, -1)
    torch.testing.assert_close(rollout.advantages_GK, grpo_advantages(rewards))


def test_steps_without_signal_leave_the_weights_as_they_were(tmp_path: Path) -> None:
    start = untrained_run(tmp_path / "untrained")
    folder = train(new_run(tmp_path / "rlhf", checkpoint=start, steps=3))
    assert arithmetic.metric_rows(folder, "kept_groups") == [0.0] * 3
    before, after = (load_model(run.checkpoint()).state_dict() for run in (start, folder))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_beyond_the_bound_it_goes_back_at_half_the_rate_and_releases_nothing_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train(new_run(tmp_path / "rlhf", **WILD))
    result = folder.result()
    assert result["retreats"] > 0
    assert result["lr_scale"] == 0.5 ** result["retreats"]
    assert result["kl_interval"][1] <= WILD["max_kl"]
    assert "back to step 0, 0.5 of the learning rate" in capsys.readouterr().out


@pytest.mark.parametrize(("changes", "step"), [({}, 8), (WILD, 2)])
def test_a_killed_run_resumed_leaves_the_very_bytes_of_one_that_was_not(
    tmp_path: Path, changes: dict[str, Any], step: int
) -> None:
    twin = train(new_run(tmp_path / "twin", **changes))
    run = new_run(tmp_path / "killed", **changes)
    with pytest.raises(arithmetic.Killed):
        train(arithmetic.DiesAt(run.folder, step))
    train(Run(run.folder))
    assert arithmetic.weights_of(run.folder) == arithmetic.weights_of(twin)
    assert samples(run.folder) == samples(twin)


def test_the_kept_rollouts_are_whole_groups_with_their_verdicts(tmp_path: Path) -> None:
    rows = samples(train(new_run(tmp_path / "rlhf")))
    assert [row.step for row in rows] == [0] * 12 + [10] * 12
    for start in range(0, len(rows), SPEC["group_size"]):
        group = rows[start : start + SPEC["group_size"]]
        assert len({(row.step, row.group, row.prompt) for row in group}) == 1
        assert sum(row.advantage for row in group) == pytest.approx(0, abs=1e-3)
        for row in group:
            parts = Parts(row.correctness, row.coherence, row.diversity, row.safety)
            assert row.reward == pytest.approx(composite_reward(parts, RewardWeights()))


def test_reward_that_rises_while_correctness_falls_raises_an_alarm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(tmp_path / "rlhf")
    loop = rlhf.Loop(run, spec_of(run), torch.nn.Linear(1, 1), memory={"averages": {}, "alarm": False, INSIDE: True})

    def alarms(total: float, correct: float, steps: int) -> list[float]:
        return [rlhf.watch_rewards(loop, {"reward/total": total, "reward/correctness": correct}) for _ in range(steps)]

    assert not any(alarms(0.5, 0.6, 10) + alarms(0.7, 0.7, 10))
    assert alarms(0.9, 0.3, 20)[-1] == 1.0
    assert capsys.readouterr().out.count("alarm at step 0") == 1


def test_problems_for_reinforcement_learning_must_exist(tmp_path: Path) -> None:
    problems = arithmetic.problems_run(tmp_path / "problems")
    (problems.artifacts / "problems" / "rl.jsonl").write_text("")
    run = arithmetic.new_run(tmp_path / "rlhf", SPEC, problems=problems)
    with pytest.raises(ValueError, match="raise 'rl' of the synthesize job"):
        train(run)

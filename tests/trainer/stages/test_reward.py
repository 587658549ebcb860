"""The reward stage: pairs are what they claim to be, and the model that learns from them says how sure it is."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer import arithmetic, tiny
from trainer.alignment.answers import question
from trainer.artifacts import Run, RunFolder, new_folder, read_jsonl, step_folder, write_jsonl
from trainer.model.mixtral import load_model, save_weights
from trainer.rewards.correctness import correctness
from trainer.spec import Pair, RewardSpec
from trainer.stages import reward

SPEC: dict[str, Any] = {
    "kind": "reward",
    "name": "reward",
    "steps": 8,
    "pairs": 40,
    "batch_pairs": 8,
    "max_new_tokens": 24,
    "snapshot_every": 3,
    "compile": False,
    "precision": "fp32",
    "optimizer": {"lr": 3e-3},
}


def spec_of(run: Run) -> RewardSpec:
    spec = run.folder.job().spec
    assert isinstance(spec, RewardSpec)
    return spec


def finished(path: Path, **inputs: RunFolder) -> RunFolder:
    run = arithmetic.new_run(path, SPEC, **inputs)
    reward.run(spec_of(run), run)
    return run.folder


def pairs_of(folder: RunFolder) -> list[Pair]:
    return list(read_jsonl(folder.artifact("pairs") / "pairs.jsonl", Pair))


def labels_run(path: Path, count: int, preference: float = 1.0) -> RunFolder:
    folder = RunFolder(path)
    pairs = [
        Pair(
            id=str(i),
            prompt=question(p.prompt),
            chosen=p.solution,
            rejected="No idea.",
            origin="label",
            preference=preference,
        )
        for i, p in enumerate(arithmetic.problems()[:count])
    ]
    with new_folder(folder.artifacts / "labels") as target:
        write_jsonl(target / "pairs.jsonl", pairs)
    return folder


def untrained_run(path: Path) -> RunFolder:
    folder, model = RunFolder(path), tiny.network(arithmetic.policy().config)
    with new_folder(step_folder(folder.checkpoints, 1)) as target:
        save_weights(target, model.config, model.state_dict(), arithmetic.tokenizer())
    return folder


def test_half_the_pairs_are_the_policys_own_errors_and_every_verdict_is_true(tmp_path: Path) -> None:
    folder = finished(tmp_path / "reward")
    pairs = pairs_of(folder)
    assert Counter(pair.origin for pair in pairs) == {"policy_error": 20, "distractor": 20}
    answers = {question(p.prompt): p.answer for p in arithmetic.problems()}
    for pair in pairs:
        assert correctness(pair.chosen, answers[pair.prompt]) == 1
        assert correctness(pair.rejected, answers[pair.prompt]) == 0
        assert "The answer is" in pair.rejected
    assert len({pair.id for pair in pairs if pair.origin == "distractor"}) == 20


def test_it_reports_held_out_accuracy_beside_the_length_baseline_and_saves_the_head(tmp_path: Path) -> None:
    folder = finished(tmp_path / "reward")
    result = folder.result()
    low, high = result["accuracy_interval"]
    assert low <= result["accuracy"] <= high
    assert 0 <= result["length_baseline"] <= 1
    assert result["n"] == sum(part["n"] for part in result["by_origin"].values())
    head = load_file(folder.checkpoint() / reward.HEAD)["weight"]
    assert head.shape == (1, 32)
    assert head.any()
    assert load_model(folder.checkpoint()).config == arithmetic.policy().config
    losses = arithmetic.metric_rows(folder, "loss")
    assert losses[0] == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-5)


def test_a_killed_run_resumed_leaves_the_very_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    twin = finished(tmp_path / "twin")
    run = arithmetic.new_run(tmp_path / "killed", SPEC)
    with pytest.raises(arithmetic.Killed):
        reward.run(spec_of(run), arithmetic.DiesAt(run.folder, 5))
    reward.run(spec_of(run), Run(run.folder))
    assert pairs_of(run.folder) == pairs_of(twin)
    assert arithmetic.weights_of(run.folder) == arithmetic.weights_of(twin)
    assert run.folder.result()["accuracy"] == twin.result()["accuracy"]


def test_labels_join_the_candidates(tmp_path: Path) -> None:
    folder = finished(tmp_path / "reward", labels=labels_run(tmp_path / "labels", 12))
    assert folder.result()["pairs"] == {"distractor": 20, "label": 12, "policy_error": 20}
    assert {pair.origin for pair in pairs_of(folder)} == {"distractor", "policy_error"}


def test_ties_are_learnt_from_and_judged_nowhere(tmp_path: Path) -> None:
    result = finished(tmp_path / "reward", labels=labels_run(tmp_path / "labels", 12, preference=0.5)).result()
    assert result["ties"] == 12
    assert "label" not in result["by_origin"]
    assert sum(point["n"] for point in result["calibration"]["curve"]) == result["n"]


def test_a_policy_that_gives_no_wrong_answers_is_replaced_by_distractors_and_the_log_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path / "reward", checkpoint=untrained_run(tmp_path / "untrained"))
    assert Counter(pair.origin for pair in pairs_of(folder)) == {"distractor": 40}
    assert "erred too rarely: 20 further pairs" in capsys.readouterr().out


def test_no_prompt_is_on_both_sides_of_the_split(tmp_path: Path) -> None:
    run = arithmetic.new_run(tmp_path / "reward", SPEC)
    pairs = pairs_of(finished(tmp_path / "made"))
    train, heldout = reward.split(pairs, spec_of(run))
    assert sorted(p.id for p in train + heldout) == sorted(p.id for p in pairs)
    assert not {p.prompt for p in train} & {p.prompt for p in heldout}
    with pytest.raises(ValueError, match="cannot be split"):
        reward.split(pairs[:1], spec_of(run))


def test_length_alone_is_scored_in_the_direction_the_training_pairs_favour() -> None:
    def pair(chosen: str, rejected: str) -> Pair:
        return Pair(id="", prompt=(), chosen=chosen, rejected=rejected, origin="label")

    longer, shorter, even = pair("aaa", "a"), pair("a", "aaa"), pair("a", "b")
    assert reward.length_baseline([longer, longer, shorter], [longer, longer, shorter, shorter]) == 0.5
    assert reward.length_baseline([longer], [longer, longer, longer, even]) == 0.875
    assert reward.length_baseline([shorter], [longer, shorter, shorter, shorter]) == 0.75


def test_batches_take_every_item_once_an_epoch_whatever_the_batch_size() -> None:
    for size, count in ((10, 3), (7, 7), (5, 12)):
        drawn = [i for step in range(size) for i in reward.batch_numbers(size, count, step, seed=1)]
        assert len(drawn) == size * count
        for start in range(0, len(drawn), size):
            assert sorted(drawn[start : start + size]) == list(range(size))
        assert size == 5 or drawn[:size] != drawn[size : 2 * size]


def test_too_few_distractors_or_pairs_that_never_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="20 distractors for 30 pairs"):
        reward.distractor_pairs(arithmetic.problems()[:10], 30, seed=0)
    run = arithmetic.new_run(tmp_path / "reward", SPEC)
    with pytest.raises(ValueError, match="fits the context of 8 tokens"):
        reward.fitting(pairs_of(finished(tmp_path / "made")), arithmetic.tokenizer(), 8, run)

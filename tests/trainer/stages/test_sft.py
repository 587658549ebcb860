"""SFT: it learns, draws every row once an epoch, follows its phases, and names a user's mistake."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainer import tiny
from trainer.artifacts import RunFolder
from trainer.data.rows import Batch, open_rows
from trainer.model.mixtral import load_model, own_weights
from trainer.model.transformer import Transformer
from trainer.spec import CURRICULUM, SftSpec
from trainer.stages import sft

SPEC = {
    "kind": "sft",
    "name": "sft",
    "model": tiny.config().model_dump(),
    "steps": 30,
    "batch_rows": 4,
    "compile": False,
    "optimizer": {"lr": 0.01},
}


def trained(tmp_path: Path, **changes: object) -> RunFolder:
    dataset = tiny.tokenized_run(tmp_path / "dataset")
    run = tiny.new_run(tmp_path / "sft", {**SPEC, **changes}, {"dataset": dataset})
    spec = run.folder.job().spec
    assert isinstance(spec, SftSpec)
    sft.run(spec, run)
    return run.folder


@pytest.mark.parametrize("precision", ["auto", "fp16", "fp8"])
def test_it_learns_and_leaves_a_checkpoint_and_every_loss_part(tmp_path: Path, precision: str) -> None:
    folder = trained(tmp_path, precision=precision, model=tiny.config(intermediate_size=32).model_dump())
    rows = [json.loads(line)["values"] for line in folder.metrics_file.read_text().splitlines()]
    losses = [row["cross_entropy"] for row in rows if "cross_entropy" in row]
    assert losses[-1] < 0.7 * losses[0]
    assert {"balance_loss", "router_z_loss", "lr", "grad_norm", "tokens_per_second"} <= rows[-1].keys()
    assert ("loss_scale" in rows[-1]) == (precision == "fp16")
    assert {"flops", "mfu", "peak_memory_bytes"} <= rows[-1].keys()
    assert any("heldout_loss" in row for row in rows)
    weights = load_file(folder.checkpoint() / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert folder.result()["train_seconds"] > 0
    assert folder.result()["findings"] == []


def test_rows_longer_than_the_window_train_their_aggregate(tmp_path: Path) -> None:
    """Documents of 16 tokens, a window of 8: what leaves it is summed up by weights that learn too."""
    shape = tiny.config(sliding_window=8, aggregate_slots=2)
    folder = trained(tmp_path, model=shape.model_dump(), checkpoint_activations=True)
    start = Transformer(shape)
    start.reset_parameters(torch.Generator().manual_seed(0))
    learned = own_weights(load_model(folder.checkpoint()).state_dict())
    assert learned.keys() == own_weights(start.state_dict()).keys()
    for name, weight in own_weights(start.state_dict()).items():
        assert (learned[name] - weight).abs().max() > 0.01, name


def test_rows_come_once_an_epoch_in_a_new_order_each(tmp_path: Path) -> None:
    rows = open_rows(tiny.tokenized_run(tmp_path / "d").artifact("tokens"), "train")["text"]
    size = len(rows)
    drawn = np.concatenate([rows.drawn(start, 7, seed=3) for start in range(0, 14 * size, 7)])[: 2 * size]
    assert sorted(drawn[:size]) == sorted(drawn[size:]) == list(range(size))
    assert drawn[:size].tolist() != drawn[size:].tolist()


def test_each_phase_draws_its_mix_exactly_over_time(tmp_path: Path) -> None:
    sources = open_rows(tiny.tokenized_run(tmp_path / "d").artifact("tokens"), "train")
    spec = SftSpec.model_validate({**SPEC, "inputs": {"dataset": "x"}, "batch_rows": 3})
    memory = {"drawn": Counter[str](), "owed": dict.fromkeys(sft.SOURCES, 0.0)}
    for _ in range(50):
        sft.draw(spec, sources, CURRICULUM[2], memory)  # type: ignore[arg-type]
    assert memory["drawn"] == {"text": 30, "completion": 30, "dialogue": 90}


def test_phases_follow_each_other_by_their_shares() -> None:
    names = [sft.phase_at(CURRICULUM, share).phase for share in (0, 0.24, 0.25, 0.62, 0.63, 0.99, 1.0)]
    assert names == ["text", "text", "completion", "completion", "dialogue", "dialogue", "dialogue"]


def test_a_target_belongs_to_the_document_of_its_position(tmp_path: Path) -> None:
    batch: Batch = open_rows(tiny.tokenized_run(tmp_path / "d").artifact("tokens"), "train")["text"].take(np.arange(2))
    counted = batch.targets_mask_BL
    border = tiny.config().max_position_embeddings // 4 - 1
    assert not counted[:, border].any()
    assert not counted[:, -1].any()
    assert counted.sum() == 2 * (32 - 2)


def test_a_vocabulary_that_does_not_fit_the_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size is 289 but the tokenizer has 290"):
        trained(tmp_path, model=tiny.config(vocab_size=289).model_dump())


def test_the_clock_of_another_run_can_be_the_budget(tmp_path: Path) -> None:
    dataset = tiny.tokenized_run(tmp_path / "dataset")
    first = RunFolder(tmp_path / "first")
    first.artifacts.mkdir(parents=True)
    first.write_result({"train_seconds": 0.5})
    run = tiny.new_run(tmp_path / "more", {**SPEC, "steps": 1}, {"dataset": dataset, "budget": first})
    spec = run.folder.job().spec
    assert isinstance(spec, SftSpec)
    sft.run(spec, run)
    assert 0.5 <= run.folder.result()["train_seconds"] < 5

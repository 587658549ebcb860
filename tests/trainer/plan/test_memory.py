"""Planned bytes against the bytes of real small networks, and the laws of layouts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainer import tiny
from trainer.artifacts import RunFolder, complete_steps
from trainer.devices import Format
from trainer.engine.loop import Loop
from trainer.model.config import ModelConfig
from trainer.model.presets import PRESETS
from trainer.model.transformer import Block, count_parameters
from trainer.objectives import chunked_cross_entropy
from trainer.plan import memory
from trainer.spec import OptimizerName, SftSpec

DTYPES: dict[Format, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
ACTIVATION_TOLERANCE = 0.05


def held(tensors: list[Tensor]) -> int:
    """Bytes of the storages behind some tensors, each counted once; scalars (step counters) left out."""
    storages = [tensor.untyped_storage() for tensor in tensors if tensor.dim()]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def a_loop(path: Path, dtype: torch.dtype, optimizer: OptimizerName = "adamw") -> Loop:
    spec = {"kind": "sft", "name": "sft", "model": tiny.config().model_dump(), "steps": 4}
    spec |= {"optimizer": {"lr": 0.01, "name": optimizer}}
    run = tiny.new_run(path, {**spec, "snapshot_every": 1}, {"dataset": RunFolder(path.parent)})
    parsed = run.folder.job().spec
    assert isinstance(parsed, SftSpec)
    return Loop(run, parsed, tiny.network().to(dtype))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("format", DTYPES)
def test_weights_gradients_and_optimizer_are_the_bytes_of_a_real_step(
    tmp_path: Path, format: Format, optimizer: OptimizerName
) -> None:
    loop = a_loop(tmp_path / "run", DTYPES[format], optimizer)
    parameters = list(loop.model.parameters())
    loop.model.logits(loop.model(torch.zeros(1, 8, dtype=torch.long)).hidden_BLD).sum().backward()  # type: ignore[operator]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    loop.optimizer.step(1e-3)
    masters = loop.optimizer.masters
    own = {*(p.data_ptr() for p in parameters), *(gradient.data_ptr() for gradient in gradients)}
    states = [
        *loop.optimizer.state().values(),
        *(master.grad for master in masters if master.grad is not None),
    ]
    states = [tensor for tensor in states if tensor.data_ptr() not in own]
    shape = tiny.config()
    planned = memory.state_bytes(shape, count_parameters(shape), memory.Layout(), format, optimizer)
    assert planned == (held(parameters), held(gradients), held(states))


def saved_for_backward(shape: ModelConfig, rows: int, length: int, dtype: torch.dtype) -> int:
    """Bytes that autograd keeps of a forward pass with its loss, the parameters left out."""
    model = tiny.network(shape).to(dtype)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.append(tensor)
        return tensor

    tokens_BL = torch.randint(shape.vocab_size, (rows, length))
    everywhere = torch.ones_like(tokens_BL)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(tokens_BL, segments_BL=everywhere)
        hidden_TD, mask_T = output.hidden_BLD.flatten(0, 1), everywhere.bool().flatten()
        chunked_cross_entropy(hidden_TD, model.lm_head.weight, tokens_BL.flatten(), mask_T)
    return held(kept)


@pytest.mark.parametrize("format", DTYPES)
@pytest.mark.parametrize(
    ("rows", "length", "changes"),
    [
        (4, 64, {}),
        (4, 256, {"hidden_size": 128, "intermediate_size": 128, "max_position_embeddings": 256}),
        (8, 64, {"num_local_experts": 16, "num_experts_per_tok": 5, "num_hidden_layers": 3}),
        (1, 1024, {"max_position_embeddings": 1024}),
    ],
)
def test_activations_are_what_autograd_keeps(rows: int, length: int, changes: dict[str, int], format: Format) -> None:
    shape = tiny.config(**changes)
    planned = memory.kept_bytes(shape, memory.activation_bytes(shape, rows, length, format), recompute=False)
    assert planned == pytest.approx(saved_for_backward(shape, rows, length, DTYPES[format]), rel=ACTIVATION_TOLERANCE)


def test_recomputation_keeps_the_layers_inputs_and_one_layer() -> None:
    shape = tiny.config(num_hidden_layers=12)
    planned = memory.activation_bytes(shape, 4, 64, "bf16")
    assert planned.inputs == 4 * 64 * shape.hidden_size * 2
    assert memory.kept_bytes(shape, planned, recompute=True) == 12 * planned.inputs + planned.layer + planned.around


@pytest.mark.parametrize("devices", [2, 8, 64])
@pytest.mark.parametrize(("name", "optimizer"), [("small", "adamw"), ("article-12", "muon")])
def test_what_zero_splits_adds_up_to_what_one_device_holds(name: str, devices: int, optimizer: OptimizerName) -> None:
    shape = PRESETS[name]
    counts, one_block = count_parameters(shape), memory.block_parameters(shape)
    alone = memory.state_bytes(shape, counts, memory.Layout(), "bf16", optimizer)
    layouts = memory.layouts(shape, devices)[1:]
    split = {str(layout): memory.state_bytes(shape, counts, layout, "bf16", optimizer) for layout in layouts}
    for states in split.values():
        assert states.optimizer * devices == pytest.approx(alone.optimizer)
    third = split["ZeRO-3"]
    assert (third.weights - 2 * one_block) * devices == pytest.approx(alone.weights)
    assert (third.gradients - 2 * one_block) * devices == pytest.approx(alone.gradients)
    assert split["ZeRO-1"].gradients == alone.gradients > split["ZeRO-2"].gradients
    assert split["ZeRO-2"].weights == alone.weights


def test_spread_experts_leave_each_device_its_share_of_them_and_all_the_rest() -> None:
    shape = PRESETS["mixtral-8x7b"]
    counts = count_parameters(shape)
    layout = memory.layouts(shape, 64)[-1]
    assert str(layout) == "experts 8 x data 8, ZeRO-2"
    held_here = memory.state_bytes(shape, counts, layout, "bf16").weights / 2
    assert held_here == counts.total - counts.experts + counts.experts / 8


def test_a_block_holds_what_a_layer_of_the_network_holds() -> None:
    shape = tiny.config()
    assert memory.block_parameters(shape) == sum(parameter.numel() for parameter in Block(shape, 0).parameters())


def test_keys_and_values_stop_growing_at_the_window() -> None:
    shape = tiny.config(sliding_window=16)
    assert memory.kv_bytes(shape, 8, "fp32") == 2 * 2 * 2 * 8 * 4 * 8
    assert memory.kv_bytes(shape, 16, "fp32") == memory.kv_bytes(shape, 64, "fp32")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_disk_is_what_a_run_writes(tmp_path: Path, optimizer: OptimizerName) -> None:
    loop = a_loop(tmp_path / "run", torch.bfloat16, optimizer)
    for _ in loop.steps():
        loop.update(loop.model(torch.zeros(1, 8, dtype=torch.long)).hidden_BLD.square().mean(), {})
    loop.save_checkpoint(tiny.config(), tiny.tokenizer())
    counts = count_parameters(tiny.config())
    weights = loop.run.folder.checkpoint() / "model.safetensors"
    assert memory.checkpoint_bytes(counts) == pytest.approx(weights.stat().st_size, rel=0.05)
    snapshots = complete_steps(loop.run.folder.volatile)
    written = [(snapshot / "state.safetensors").stat().st_size for snapshot in snapshots]
    assert memory.snapshot_bytes(tiny.config(), counts, optimizer) == pytest.approx(
        sum(written) + written[-1], rel=0.05
    )

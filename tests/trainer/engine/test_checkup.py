"""The doctor in a real run: it names the expert that was put to death, and brings it back to life when told to."""

import json
from pathlib import Path

import pytest
import torch

from tests.trainer import tiny
from trainer.artifacts import RunFolder, new_folder, step_folder
from trainer.engine.checkup import EXPERT_TENSORS, NOISE, revive
from trainer.engine.loop import Loop
from trainer.model.mixtral import save_weights
from trainer.model.transformer import Transformer
from trainer.spec import SftSpec
from trainer.stages import sft

LAYER, DEAD = 1, 3
SPEC = {"kind": "sft", "name": "sft", "steps": 16, "batch_rows": 2, "compile": False, "optimizer": {"lr": 1e-3}}


def with_a_dead_expert() -> Transformer:
    """Every token carries a large first component, and one router row looks at nothing else, with disgust."""
    model = tiny.network()
    with torch.no_grad():
        model.embed_tokens.weight[:, 0] = 5.0
        row_D = model.layers[LAYER].moe.router.weight[DEAD]  # type: ignore[union-attr, index]
        row_D.zero_()
        row_D[0] = -20.0
    return model


def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doctor: str) -> RunFolder:
    monkeypatch.setattr(sft, "LOAD_EVERY", 2)
    start = RunFolder(tmp_path / "start")
    with new_folder(step_folder(start.checkpoints, 0)) as folder:
        save_weights(folder, tiny.config(), with_a_dead_expert().state_dict(), tiny.tokenizer())
    inputs = {"dataset": tiny.tokenized_run(tmp_path / "dataset"), "checkpoint": start}
    run = tiny.new_run(tmp_path / "sft", {**SPEC, "doctor": doctor}, inputs)
    spec = run.folder.job().spec
    assert isinstance(spec, SftSpec)
    sft.run(spec, run)
    return run.folder


def loads_of(folder: RunFolder) -> list[float]:
    """The share of the expert that was put to death, check by check."""
    rows = [json.loads(line)["values"] for line in folder.metrics_file.read_text().splitlines()]
    name = f"load/layer{LAYER}/expert{DEAD}"
    return [row[name] for row in rows if name in row]


def test_a_dead_expert_is_named_in_log_and_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, monkeypatch, "report")
    assert loads_of(folder) == [0.0] * 8
    found = folder.result()["findings"]
    assert ("dead", LAYER, DEAD) in {(finding["kind"], finding["layer"], finding["expert"]) for finding in found}
    assert capsys.readouterr().out.count(f"doctor: expert {DEAD} of layer {LAYER} is dead") == 1


def test_applied_the_remedy_gives_it_tokens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path, monkeypatch, "apply")
    loads, log = loads_of(folder), capsys.readouterr().out
    assert loads[:5] == [0.0] * 5
    assert min(loads[5:]) > 0.05
    assert f"doctor: expert {DEAD} of layer {LAYER} goes on as a copy of" in log
    assert f"doctor: expert {DEAD} of layer {LAYER} is no longer dead" in log
    dead = {
        (finding["layer"], finding["expert"]) for finding in folder.result()["findings"] if finding["kind"] == "dead"
    }
    assert (LAYER, DEAD) not in dead


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_revived_expert_is_a_noisy_copy_and_no_other_is_touched(tmp_path: Path, dtype: torch.dtype) -> None:
    spec = {**SPEC, "model": tiny.config().model_dump()}
    run = tiny.new_run(tmp_path / "run", spec, {"dataset": RunFolder(tmp_path)})
    parsed = run.folder.job().spec
    assert isinstance(parsed, SftSpec)
    loop = Loop(run, parsed, tiny.network().to(dtype))
    loop.update(loop.model(torch.arange(16).view(1, 16)).hidden_BLD.square().mean(), {})
    before = {name: tensor.clone() for name, tensor in loop.optimizer.state().items()}
    revive(loop, LAYER, DEAD, source=5)
    changed = {f"layers.{LAYER}.{tensor}" for tensor in EXPERT_TENSORS}
    for name, tensor in loop.optimizer.state().items():
        kind, _, parameter = name.partition("/")
        if parameter not in changed or not tensor.dim():
            assert torch.equal(tensor, before[name]), name
            continue
        others = [expert for expert in range(8) if expert != DEAD]
        assert torch.equal(tensor[others], before[name][others])
        source = before[name][5]
        if kind == "weight":
            assert 0.5 * NOISE < (tensor[DEAD] - source).std() / source.std() < 2 * NOISE
        else:
            assert torch.equal(tensor[DEAD], source)
    network = dict(loop.model.named_parameters())
    for name in changed:
        assert torch.equal(network[name], loop.optimizer.weights()[name].to(dtype)), "the network got the new weights"

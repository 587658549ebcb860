"""A compiled step is the step; where nothing can be compiled, the run says so."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainer import tiny
from trainer.artifacts import Run
from trainer.engine.compilation import CrossEntropy, compile_step
from trainer.model.transformer import Transformer
from trainer.objectives import chunked_cross_entropy

SPEC = {"kind": "sft", "name": "sft", "model": tiny.config().model_dump(), "steps": 1, "optimizer": {"lr": 0.01}}


def a_run(path: Path) -> Run:
    return tiny.new_run(path, SPEC, {"dataset": tiny.RunFolder(path.parent)})


def gradients(model: Transformer, cross_entropy: CrossEntropy) -> list[Tensor]:
    tokens = torch.randint(tiny.VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(0))
    hidden_TD = model(tokens).hidden_BLD.flatten(0, 1)
    mask_T = torch.ones(tokens.numel(), dtype=torch.bool)
    loss = cross_entropy(hidden_TD, model.lm_head.weight, tokens.roll(-1, dims=1).flatten(), mask_T)
    return [gradient.float() for gradient in torch.autograd.grad(loss, list(model.parameters()))]


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler, so nothing is compiled")
def test_compiled_gradients_are_those_of_the_plain_network(tmp_path: Path) -> None:
    model = tiny.network(std=0.05).bfloat16()
    plain = gradients(model, chunked_cross_entropy)
    run = a_run(tmp_path / "run")
    compiled = gradients(model, compile_step(model, True, run))
    assert '"compiled": 1.0' in run.folder.metrics_file.read_text()
    for expected, got in zip(plain, compiled, strict=True):
        assert torch.cosine_similarity(expected.flatten(), got.flatten(), dim=0) > 0.999
        torch.testing.assert_close(got.norm(), expected.norm(), rtol=0.02, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "has_compiler", "reason"),
    [
        (torch.bfloat16, False, "no C++ compiler"),
        (torch.float32, True, "in float32"),
        (torch.float16, True, "in float16"),
    ],
)
def test_what_cannot_be_compiled_is_said_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    dtype: torch.dtype, has_compiler: bool, reason: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(shutil, "which", lambda name: name if has_compiler else None)
    run = a_run(tmp_path / "run")
    assert compile_step(tiny.network().to(dtype), True, run) is chunked_cross_entropy
    assert reason in capsys.readouterr().out
    assert '"compiled": 0.0' in run.folder.metrics_file.read_text()

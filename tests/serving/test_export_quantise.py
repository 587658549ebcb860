"""Weights of 8 bits by ModelOpt: what is written is what TensorRT-LLM reads, and comes back nearly the same.

What needs no ModelOpt runs everywhere; the rest where the extra `quantise` is installed.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from serving.agreement import agreement, check_agreement
from serving.export import quantise
from serving.export.__main__ import logits_of
from serving.export.quantise import calibration_rows, check_installed, check_quantised, dequantised, expected_tensors
from serving.parity import read_record
from tests.serving.world import checkpoint_run, error_of, export_run
from tests.trainer import tiny
from trainer.artifacts import RunFolder
from trainer.model.mixtral import from_mixtral, load_model
from trainer.spec import Quantisation

CONFIG = tiny.config(hidden_size=64, intermediate_size=64)
needs_modelopt = pytest.mark.skipif(
    find_spec("modelopt") is None, reason="ModelOpt is not installed: pip install 'octavo[quantise]'"
)


def quantised_run(tmp_path: Path, kind: Quantisation, **spec: Any) -> tuple[int, RunFolder]:
    source = checkpoint_run(tmp_path / "training", config=CONFIG)
    inputs = {"dataset": tiny.tokenized_run(tmp_path / "tokens")} if kind == "fp8" else {}
    # Eight bits cost a random network, whose experts are all as likely, more than a trained one.
    return export_run(tmp_path / "export", source, inputs, quantise=kind, **{"max_kl": 0.3, **spec})


@needs_modelopt
@pytest.mark.parametrize(("kind", "kv_dtype"), [("fp8", "auto"), ("fp8", "fp8"), ("int8", "auto")])
def test_a_quantised_export_comes_back_nearly_the_same(tmp_path: Path, kind: Quantisation, kv_dtype: str) -> None:
    status, run = quantised_run(tmp_path, kind, trtllm={"kv_dtype": kv_dtype})
    assert status == 0, run.status()
    export = run.artifact("export")
    folder = export / "quantised"
    tensors = check_quantised(folder, CONFIG, kind, kv_dtype == "fp8")
    exact, found = load_file(export / "model.safetensors"), dequantised(tensors)
    assert found.keys() == exact.keys()
    for name, tensor in exact.items():
        # e4m3 has three bits behind the point, int8 steps of a row's largest / 127; ModelOpt starts from bfloat16.
        step = tensor.abs() / 16 + tensor.abs().amax() / 448 if kind == "fp8" else tensor.abs().amax(-1, True) / 254
        assert bool(((found[name] - tensor).abs() <= 1.05 * step + tensor.abs() / 128).all()), name
    result = run.result()
    for what in ("quantised_kl", "quantised_weights_kl"):
        assert 0 < result[what] <= (0.3 if kind == "fp8" else 0.05), what
    assert result["quantised_top1"] >= (0.4 if kind == "fp8" else 0.8)
    quantised = json.loads((folder / "hf_quant_config.json").read_text())["quantization"]
    assert quantised["quant_algo"] == ("FP8" if kind == "fp8" else "W8A16")
    assert quantised["kv_cache_quant_algo"] == ("FP8" if kv_dtype == "fp8" else None)
    assert {"lm_head", "model.layers.0.block_sparse_moe.gate"} <= {*quantised["exclude_modules"]}


@needs_modelopt
def test_a_quantised_export_is_whole(tmp_path: Path) -> None:
    """TensorRT-LLM is given the folder alone; its config keeps both spellings, which ModelOpt's own lacks."""
    status, run = quantised_run(tmp_path, "fp8", calibration_rows=3)
    assert status == 0, run.status()
    export = run.artifact("export")
    ours, theirs = (json.loads((path / "config.json").read_text()) for path in (export, export / "quantised"))
    assert theirs.pop("quantization_config")["quant_method"] == "modelopt"
    assert theirs == {**ours, "torch_dtype": "bfloat16", "dtype": "bfloat16"}
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "trtllm.yaml"):
        assert (export / "quantised" / name).read_bytes() == (export / name).read_bytes()
    assert yaml.safe_load((export / "quantised" / "trtllm.yaml").read_text())["max_seq_len"] == 64
    assert run.result()["trtllm_weights"] == run.result()["parameters"]


@needs_modelopt
def test_too_coarse_is_refused(tmp_path: Path) -> None:
    status, run = quantised_run(tmp_path, "int8", max_kl=1e-9)
    assert status == 1
    assert "mean KL" in error_of(run)
    assert not (run.artifacts / "export").exists()


def test_without_modelopt_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "find_spec", lambda module: None)
    status, run = quantised_run(tmp_path, "int8")
    assert status == 1
    assert "pip install 'octavo[quantise]'" in error_of(run)
    monkeypatch.undo()
    if find_spec("modelopt") is not None:
        check_installed()


def test_calibration_takes_of_each_source(tmp_path: Path) -> None:
    tokens = tiny.tokenized_run(tmp_path / "tokens").artifact("tokens")
    rows_BL = calibration_rows(tokens, 6, 16)
    assert rows_BL.shape == (6, 16)
    for number, source in enumerate(("completion", "dialogue", "text")):
        expected = np.load(tokens / source / "train" / "tokens.npy")[:2, :16]
        assert rows_BL[2 * number : 2 * number + 2].tolist() == expected.tolist()
    with pytest.raises(ValueError, match="holds no rows to calibrate with"):
        calibration_rows(tmp_path / "nothing", 6, 16)


def fake_quantised(folder: Path, kind: Quantisation) -> dict[str, torch.Tensor]:
    """Tensors of the right names, dtypes and shapes."""
    tensors = {
        name: torch.ones(shape).to(dtype) for name, (dtype, shape) in expected_tensors(CONFIG, kind, True).items()
    }
    save_file(tensors, folder / "model.safetensors")
    return tensors


@pytest.mark.parametrize("kind", ["fp8", "int8"])
def test_a_tensor_that_would_not_be_read_is_named(tmp_path: Path, kind: Quantisation) -> None:
    tensors = fake_quantised(tmp_path, kind)
    assert check_quantised(tmp_path, CONFIG, kind, True).keys() == tensors.keys()
    scale = "model.layers.1.block_sparse_moe.experts.7.w2.weight_scale"
    key_scale = "model.layers.0.self_attn.k_proj.k_scale"
    for name, changed, reason in (
        (scale, torch.zeros_like(tensors[scale]), f"scale '{scale}' is not positive"),
        (scale, tensors[scale].double(), f"'{scale}' is torch.float64"),
        (key_scale, None, f"tensor '{key_scale}' is missing"),
        ("extra", torch.ones(1), "tensor 'extra' is unknown"),
    ):
        broken = {**tensors, name: changed}
        save_file({key: value for key, value in broken.items() if value is not None}, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=reason):
            check_quantised(tmp_path, CONFIG, kind, True)


def test_a_network_agrees_with_itself_and_not_with_another(tmp_path: Path) -> None:
    source = checkpoint_run(tmp_path / "one").checkpoint()
    record = read_record(source)
    model = load_model(source)
    same = agreement(logits_of(model.config, dict(model.state_dict())), record)
    assert same.kl == pytest.approx(0, abs=1e-6)
    assert same.top1 == 1
    other = checkpoint_run(tmp_path / "other", seed=1).checkpoint()
    weights = from_mixtral(model.config, load_file(other / "model.safetensors"))
    with pytest.raises(ValueError, match="mean KL of"):
        check_agreement(logits_of(model.config, weights), record, 0.05)
    with pytest.raises(ValueError, match="mean KL of nan"):
        check_agreement(lambda tokens: torch.full((len(tokens), 290), float("nan")), record, 0.05)

"""An export with weights of 8 bits, by NVIDIA's ModelOpt, in the layout that TensorRT-LLM's PyTorch backend loads.

The only importer of modelopt, which is an extra of its own and takes a while to import.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from serving.agreement import Logits
from trainer.artifacts import is_complete
from trainer.model.config import ModelConfig
from trainer.model.mixtral import to_mixtral
from trainer.model.transformer import Transformer
from trainer.spec import Quantisation

CALIBRATION_BATCH = 8
_FP8, _INT8 = torch.float8_e4m3fn, torch.int8
_WHOLE = ("lm_head.", "embed_tokens.", "norm.", "block_sparse_moe.gate.")  # what keeps its 16 bits


def check_installed() -> None:
    """Raises: ValueError: modelopt or transformers is not there; names the extra."""
    for module in ("modelopt", "transformers"):
        if find_spec(module) is None:
            raise ValueError(f"quantise needs {module}, which is not installed: pip install 'octavo[quantise]'")


def calibration_rows(tokenized: Path, count: int, context: int) -> Tensor:
    """At most `count` packed rows of the training text [rows, L], as many of each source as there are.

    Args:
        tokenized: the artifact `tokens` of a tokenize job.

    Raises:
        ValueError: it holds no rows.
    """
    sources = sorted(tokenized.glob("*/train/tokens.npy")) if is_complete(tokenized) else []
    if not sources:
        raise ValueError(f"{tokenized} holds no rows to calibrate with; give the tokenize job that training read")
    share = -(-count // len(sources))
    rows = np.concatenate([np.load(path, mmap_mode="r")[:share, :context] for path in sources])[:count]
    return torch.from_numpy(rows.astype(np.int64))


def quantised_model(export: Path, kind: Quantisation, rows_BL: Tensor | None, fp8_kv: bool) -> Any:
    """transformers' network of an export, computing as if in 8 bits: weights and, for fp8, activations.

    Args:
        rows_BL: text to take the ranges of activations from; not needed for int8.
    """
    import modelopt.torch.quantization as mtq
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.bfloat16)
    recipe = mtq.FP8_DEFAULT_CFG if kind == "fp8" else mtq.INT8_WEIGHT_ONLY_CFG
    if fp8_kv:
        recipe = {**recipe, "quant_cfg": [*recipe["quant_cfg"], *mtq.FP8_KV_CFG["quant_cfg"]]}
    return mtq.quantize(model, recipe, None if rows_BL is None else _reading(rows_BL))


def model_logits(model: Any) -> Logits:
    """The logits of transformers' network."""

    @torch.inference_mode()
    def logits(tokens: list[int]) -> Tensor:
        found: Tensor = model(torch.tensor([tokens])).logits[0]
        return found

    return logits


def write_quantised(model: Any, export: Path, folder: Path) -> None:
    """Write a `quantised_model` of `export` into `folder`: config, tensors with scales, hf_quant_config.json."""
    from modelopt.torch.export import export_hf_checkpoint

    with torch.inference_mode():
        export_hf_checkpoint(model, dtype=torch.bfloat16, export_dir=folder)
    # ModelOpt writes transformers' newest spelling alone; older readers need both (see `hf_config`).
    theirs, ours = (json.loads((path / "config.json").read_text()) for path in (folder, export))
    quantisation = {"quantization_config": theirs["quantization_config"]}
    merged = {**ours, "torch_dtype": "bfloat16", "dtype": "bfloat16", **quantisation}
    (folder / "config.json").write_text(json.dumps(merged, indent=1))


def _reading(rows_BL: Tensor) -> Callable[[Any], None]:
    @torch.inference_mode()
    def read(model: Any) -> None:
        for start in range(0, len(rows_BL), CALIBRATION_BATCH):
            model(rows_BL[start : start + CALIBRATION_BATCH])

    return read


def expected_tensors(
    config: ModelConfig, kind: Quantisation, fp8_kv: bool
) -> dict[str, tuple[torch.dtype, torch.Size]]:
    """Name -> dtype and shape of every tensor of a quantised export: X.weight, X.weight_scale and, for fp8,
    X.input_scale; k_proj.k_scale and v_proj.v_scale for an fp8 KV cache."""
    with torch.device("meta"):
        whole = to_mixtral(config, Transformer(config).state_dict())
    expected = {}
    for name, tensor in whole.items():
        if any(part in name for part in _WHOLE):
            expected[name] = torch.bfloat16, tensor.shape
            continue
        module, scale = name.removesuffix(".weight"), torch.Size([] if kind == "fp8" else tensor.shape[:1])
        expected[name] = _FP8 if kind == "fp8" else _INT8, tensor.shape
        expected[f"{module}.weight_scale"] = torch.float32, scale
        if kind == "fp8":
            expected[f"{module}.input_scale"] = torch.float32, torch.Size([])
        short = module[-6:]
        if fp8_kv and short in ("k_proj", "v_proj"):
            expected[f"{module}.{short[0]}_scale"] = torch.float32, torch.Size([])
    return expected


def check_quantised(folder: Path, config: ModelConfig, kind: Quantisation, fp8_kv: bool) -> dict[str, Tensor]:
    """The tensors of a quantised export, each of which is as TensorRT-LLM reads it.

    Raises:
        ValueError: one is missing, unknown, of another dtype or shape, or a scale is no positive number; it is named.
    """
    found, expected = load_file(folder / "model.safetensors"), expected_tensors(config, kind, fp8_kv)
    for name in sorted(found.keys() | expected.keys()):
        if name not in found or name not in expected:
            raise ValueError(f"quantised export: tensor '{name}' is {'missing' if name in expected else 'unknown'}")
        if (found[name].dtype, found[name].shape) != expected[name]:
            raise ValueError(
                f"quantised export: tensor '{name}' is {found[name].dtype} {tuple(found[name].shape)}, not "
                f"{expected[name][0]} {tuple(expected[name][1])}"
            )
        if name.endswith("_scale") and not bool(((found[name] > 0) & found[name].isfinite()).all()):
            raise ValueError(
                f"quantised export: scale '{name}' is not positive, as if no token had come there; raise "
                "calibration_rows"
            )
    return found


def dequantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mixtral's float32 weights of a quantised export: X.weight · X.weight_scale, a scale for all rows or for each."""
    weights = {}
    for name, tensor in tensors.items():
        if not name.endswith(".weight"):
            continue
        scale = tensors.get(f"{name}_scale")
        weights[name] = tensor.float() if scale is None else tensor.float() * scale.view(-1, 1)
    return weights

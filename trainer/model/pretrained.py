"""A checkpoint from elsewhere, in Hugging Face's layout: Llama and Mistral (dense) or Mixtral, safetensors only.

A dense network is a Mixtral with one expert, whatever its router says: that expert gets the whole weight. So both
kinds become a `ModelConfig` and a state dict of `Transformer`; `upcycling` makes more experts of one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.artifacts import read_json
from trainer.model.config import ModelConfig
from trainer.model.mixtral import from_mixtral, to_mixtral
from trainer.model.transformer import Transformer
from trainer.spec import explain

ROPE_THETA = {"llama": 1e4, "mistral": 1e4, "mixtral": 1e6}  # where the config leaves it out
FLOATS = ("F32", "F16", "BF16", "F64")
_INDEX, _WEIGHTS, _HEAD, _EMBEDDING = (
    "model.safetensors.index.json", "model.safetensors", "lm_head.weight", "model.embed_tokens.weight",
)  # fmt: skip
_DENSE = {"w1.": "gate_proj.", "w2.": "down_proj.", "w3.": "up_proj."}
_EXPERT, _GATE = "block_sparse_moe.experts.0.", "block_sparse_moe.gate."


def read_pretrained(folder: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """The network's shape and its float32 weights under our names; a dense one has one expert.

    Raises:
        ValueError: the folder holds something that Mixtral has no place for, or lacks something; it is named.
    """
    config, is_dense = read_foreign_config(folder)
    files = weight_files(folder)
    with torch.device("meta"):
        empty = to_mixtral(config, Transformer(config).state_dict())
    expected = {_dense_name(name) if is_dense else name: tuple(tensor.shape) for name, tensor in empty.items()}
    if is_dense:
        expected = {name: shape for name, shape in expected.items() if _GATE not in name}
    check_tensors(_shapes(files), expected, config.tie_word_embeddings)
    found = _load(files)
    if config.tie_word_embeddings and not torch.equal(found.pop(_HEAD, found[_EMBEDDING]), found[_EMBEDDING]):
        raise ValueError(f"the config ties tensor '{_HEAD}' to '{_EMBEDDING}', but they differ")
    if is_dense:
        router = {name: torch.zeros(tensor.shape) for name, tensor in empty.items() if _GATE in name}
        found = router | {name: found[_dense_name(name)] for name in empty if name not in router}
    return config, from_mixtral(config, found)


def read_foreign_config(folder: Path) -> tuple[ModelConfig, bool]:
    """The network's shape, and whether it is dense.

    Raises:
        ValueError: it computes something that Mixtral does not; says what.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json: it is no checkpoint in Hugging Face's layout")
    raw = read_json(path)
    kind = raw.get("model_type")
    if kind not in ROPE_THETA:
        raise ValueError(f"{path} is of type '{kind}'; Octavo imports {', '.join(ROPE_THETA)}")
    _refuse_what_differs(path, raw)
    values = {name: raw[name] for name in ModelConfig.model_fields if raw.get(name) is not None}
    values.setdefault("num_key_value_heads", values.get("num_attention_heads"))
    values["rope_theta"] = _rope(raw).get("rope_theta") or raw.get("rope_theta") or ROPE_THETA[kind]
    if kind == "llama" or values.get("sliding_window", 0) > values.get("max_position_embeddings", 0):
        values.pop("sliding_window", None)
    if kind != "mixtral":
        values |= {"num_local_experts": 1, "num_experts_per_tok": 1}
    try:
        return ModelConfig(**values), kind != "mixtral"
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error)}") from error


def _refuse_what_differs(path: Path, raw: Mapping[str, Any]) -> None:
    rope = _rope(raw)
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope_type != "default":
        raise ValueError(f"{path}: rope of type '{rope_type}' has no place in Mixtral, which knows plain rope only")
    if rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1)) != 1:
        raise ValueError(f"{path}: partial_rotary_factor has no place in Mixtral, which rotates whole heads")
    if raw.get("hidden_act", "silu") != "silu":
        raise ValueError(f"{path}: hidden_act '{raw['hidden_act']}' has no place in Mixtral, whose experts use 'silu'")
    if raw.get("quantization_config"):
        method = raw["quantization_config"].get("quant_method")
        raise ValueError(f"{path}: the weights are quantised ({method}); import the original ones")
    hidden, heads, head_dim = (raw.get(name) for name in ("hidden_size", "num_attention_heads", "head_dim"))
    if head_dim and hidden and heads and head_dim * heads != hidden:
        raise ValueError(f"{path}: head_dim {head_dim} times {heads} heads is not hidden_size {hidden}, as it must be")


def _rope(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Newer files say `rope_parameters`, older ones `rope_scaling` where there is one."""
    return raw.get("rope_parameters") or raw.get("rope_scaling") or {}


# -- tensors ---------------------------------------------------------------------------------------------------------


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, one or several.

    Raises:
        ValueError: there are none, or one that the index lists is missing.
    """
    if (folder / _INDEX).is_file():
        files = [folder / name for name in sorted(set(read_json(folder / _INDEX).get("weight_map", {}).values()))]
        if not files:
            raise ValueError(f"{folder / _INDEX} lists no tensors in a weight_map; copy the whole checkpoint")
        for file in files:
            if not file.is_file():
                raise ValueError(f"{file} is missing, though {_INDEX} lists it; copy the whole checkpoint")
        return files
    if not (folder / _WEIGHTS).is_file():
        pickled = sorted(path.name for suffix in ("bin", "pt", "pth") for path in folder.glob(f"*.{suffix}"))
        reason = f" only {pickled[0]}, and pickled weights are never opened" if pickled else ""
        raise ValueError(f"{folder} has no {_WEIGHTS}{',' if pickled else ''}{reason}; save it as safetensors")
    return [folder / _WEIGHTS]


def check_tensors(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], tied: bool = False
) -> None:
    """Compare names and shapes.

    Args:
        tied: `lm_head.weight` may be there though it is not needed.

    Raises:
        ValueError: a tensor is unknown, missing or misshapen; the first is named.
    """
    for name in sorted(found.keys() - expected.keys()):
        if not (tied and name == _HEAD):
            raise ValueError(f"tensor '{name}' has no place in Mixtral, so this network cannot be imported")
    for name, shape in expected.items():
        if name not in found:
            raise ValueError(f"tensor '{name}' of shape {shape} is missing from the checkpoint")
        if found[name] != shape:
            raise ValueError(f"tensor '{name}' has shape {found[name]}, but by the config it should have {shape}")


def _shapes(files: list[Path]) -> dict[str, tuple[int, ...]]:
    """Name -> shape, read from the headers."""
    shapes = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in filter(_is_weight, file.keys()):
                    header = file.get_slice(name)
                    if header.get_dtype() not in FLOATS:
                        raise ValueError(f"tensor '{name}' holds {header.get_dtype()} numbers; import one with floats")
                    shapes[name] = tuple(header.get_shape())
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
    return shapes


def _load(files: list[Path]) -> dict[str, Tensor]:
    tensors = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in filter(_is_weight, file.keys()):
                tensors[name] = file.get_tensor(name).float()
    return tensors


def _is_weight(name: str) -> bool:
    """Old Llama files hold the rotary frequencies too, which follow from the config."""
    return not name.endswith("rotary_emb.inv_freq")


def _dense_name(name: str) -> str:
    """'….block_sparse_moe.experts.0.w1.weight' -> '….mlp.gate_proj.weight'; other names are the same."""
    prefix, found, short = name.partition(_EXPERT)
    return f"{prefix}mlp.{_DENSE[short[:3]]}{short[3:]}" if found else name

"""A checkpoint as an export folder: Hugging Face layout for an unmodified `MixtralForCausalLM`, and how to serve it."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from serving.parity import PARITY_FILE, TOLERANCE_FILE
from trainer.model.config import ModelConfig
from trainer.model.mixtral import OWN, read_config, save_mixtral

COPIED = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", PARITY_FILE)
MAX_BATCH_SIZE, MAX_NUM_TOKENS, TOKENS_PER_BLOCK = 64, 8192, 32


def write_export(checkpoint: Path, folder: Path, dtype: torch.dtype, tolerance: float) -> None:
    """Write all files of an export into `folder`, which exists.

    What Mixtral has no name for stays behind: with a global aggregate, the export is the network up to its window.

    Raises:
        ValueError: the checkpoint lacks a file; it is named.
    """
    name = str(dtype).removeprefix("torch.")
    config = {**json.loads((checkpoint / "config.json").read_text()), "torch_dtype": name, "dtype": name}
    config.pop(OWN, None)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    for file in COPIED:
        if not (checkpoint / file).is_file():
            raise ValueError(f"checkpoint {checkpoint} has no {file}, which an export needs")
        shutil.copyfile(checkpoint / file, folder / file)
    save_mixtral(folder, read_weights(checkpoint, dtype))
    (folder / TOLERANCE_FILE).write_text(json.dumps({"tolerance": tolerance}))
    (folder / "trtllm.yaml").write_text(yaml.safe_dump(trtllm_config(read_config(folder)), sort_keys=False))


def read_weights(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Mixtral's tensors in the numbers asked for."""
    return {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}


def check_weights(checkpoint: Path, export: Path, dtype: torch.dtype) -> None:
    """Every tensor of the export is the checkpoint's. The parity record cannot say so of an expert it never used.

    Raises:
        ValueError: a tensor is missing, unknown or another; the first is named.
    """
    expected, written = read_weights(checkpoint, dtype), load_file(export / "model.safetensors")
    for name in sorted(expected.keys() | written.keys()):
        if name not in expected or name not in written or not torch.equal(expected[name], written[name]):
            raise ValueError(f"tensor '{name}' of the export is not the checkpoint's; the export is refused")


def trtllm_config(config: ModelConfig) -> dict[str, Any]:
    """What `trtllm-serve EXPORT --config trtllm.yaml` reads; in-flight batching is always on there."""
    kv_cache: dict[str, Any] = {
        "enable_block_reuse": True,
        "free_gpu_memory_fraction": 0.9,
        "tokens_per_block": TOKENS_PER_BLOCK,
        "dtype": "auto",
    }
    if config.sliding_window is not None:
        kv_cache["max_attention_window"] = [config.sliding_window]
    return {
        "max_batch_size": MAX_BATCH_SIZE,
        "max_num_tokens": MAX_NUM_TOKENS,
        "max_seq_len": config.max_position_embeddings,
        "enable_chunked_prefill": True,
        "scheduler_config": {"capacity_scheduler_policy": "GUARANTEED_NO_EVICT"},
        "kv_cache_config": kv_cache,
    }

"""A checkpoint as an export folder: Hugging Face layout for an unmodified `MixtralForCausalLM`, and how to serve it."""

import json
import shutil
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from serving.export.trtllm import trtllm_config
from serving.parity import PARITY_FILE, TOLERANCE_FILE
from trainer.model.mixtral import OWN, read_config, save_mixtral
from trainer.spec import TrtllmSettings

READERS = ("generation_config.json", "tokenizer.json", "tokenizer_config.json")  # what other programs need too
COPIED = (*READERS, PARITY_FILE)
TRTLLM_FILE, QUANTISED = "trtllm.yaml", "quantised"  # a folder of an export: the same in 8 bits
MAX_KL = 0.05


def write_export(
    checkpoint: Path,
    folder: Path,
    dtype: torch.dtype,
    tolerance: float,
    trtllm: TrtllmSettings = TrtllmSettings(),
    max_kl: float = MAX_KL,
) -> None:
    """Write all files of an export into `folder`, which exists.

    What Mixtral has no name for stays behind: with a global aggregate, the export is the network up to its window.

    Raises:
        ValueError: the checkpoint lacks a file, or the network does not fit the settings; says what.
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
    (folder / TOLERANCE_FILE).write_text(json.dumps({"tolerance": tolerance, "max_kl": max_kl}))
    (folder / TRTLLM_FILE).write_text(yaml.safe_dump(trtllm_config(read_config(folder), trtllm), sort_keys=False))


def read_max_kl(export: Path) -> float:
    """The largest mean KL to the trained network, nat per token, that the export job accepted of rounded numbers."""
    return float(json.loads((export / TOLERANCE_FILE).read_text()).get("max_kl", MAX_KL))


def read_dtype(export: Path) -> str:
    """The numbers an export's weights are kept in."""
    return str(json.loads((export / "config.json").read_text())["dtype"])


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

"""Volatile snapshots: everything needed to go on exactly, the last two kept."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.artifacts import complete_steps, file_sha256, folder_hashes, new_folder, step_folder

KEPT = 2


def save_snapshot(parent: Path, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Write one snapshot atomically and drop all but the newest two."""
    with new_folder(step_folder(parent, step)) as folder:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "state.safetensors")
        (folder / "state.json").write_text(json.dumps(values))
    for old in complete_steps(parent)[:-KEPT]:
        shutil.rmtree(old)


def load_snapshot(parent: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The newest snapshot whose files match their hashes, or nothing."""
    for folder in reversed(complete_steps(parent)):
        if all(file_sha256(folder / name) == digest for name, digest in folder_hashes(folder).items()):
            return load_file(folder / "state.safetensors"), json.loads((folder / "state.json").read_text())
    return None

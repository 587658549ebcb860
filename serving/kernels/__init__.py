"""Kernels for a CPU that answers, compiled on the machine that runs them. Shapes: N outputs, K inputs, F width of an
expert."""

import hashlib
import logging
import os
import platform
import shutil
import sys
from functools import cache
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import cpp_extension

from serving.int8 import ZERO, round_rows

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).parent / "layers.cpp"
NAME = "octavo_layers"
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fopenmp")
NEEDED = ("avx512f", "avx512bw", "avx512_bf16", "avx512_vnni")
OUTPUTS = 32  # of a packed block


def missing() -> str | None:
    """What keeps this machine from having the kernels, if anything does."""
    if lacking := [name for name in NEEDED if name not in _processor_flags().split()]:
        return f"the processor lacks {', '.join(lacking)}"
    return None if shutil.which("g++") else "there is no C++ compiler; on Debian it is the package g++"


@cache
def kernels() -> Any:
    """The compiled module; None where this machine cannot have it, which is logged with the reason."""
    if reason := missing():
        return _without(reason)
    library = _cache() / f"{NAME}.so"
    try:
        if not library.is_file():
            _compile(library)
    except (RuntimeError, OSError) as error:  # what cpp_extension raises when the compiler fails
        return _without(f"they do not compile: {error}")
    loader = ExtensionFileLoader(NAME, str(library))
    spec = spec_from_loader(NAME, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def _without(reason: str) -> None:
    logger.warning("answering without compiled kernels, which takes two to four times as long: %s", reason)


def _processor_flags() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.read_text().partition("flags")[2].partition("\n")[0] if cpuinfo.is_file() else ""


def _cache() -> Path:
    """A folder for this source, these versions and this processor."""
    what = (SOURCE.read_text(), torch.__version__, platform.python_version(), _processor_flags(), *FLAGS)
    digest = hashlib.sha256("\0".join(what).encode()).hexdigest()
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "octavo" / digest[:16]


def _compile(library: Path) -> None:
    """In a folder of its own, so that a build that is killed leaves nothing behind and two do not meet."""
    logger.info("compiling the kernels; once a machine, about a minute")
    library.parent.mkdir(parents=True, exist_ok=True)
    # cpp_extension calls ninja, which a virtual environment has beside its Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with TemporaryDirectory(dir=library.parent) as folder:
        cpp_extension.load(
            NAME, str(SOURCE), build_directory=folder, extra_cflags=list(FLAGS), extra_ldflags=["-fopenmp"]
        )
        os.replace(Path(folder) / library.name, library)


class Packed(NamedTuple):
    """A weight in the layout of layers.cpp, or a stack of them, and for 8 bits what its outputs are scaled and shifted
    by; both empty in bfloat16."""

    words: Tensor
    scale: Tensor
    shift: Tensor


def pack(weight: Tensor, dtype: torch.dtype) -> Packed:
    """[..., N, K] float -> a packed weight in bfloat16 or int8; N and K are multiples of 32."""
    *stack, N, K = weight.shape
    per_word = 4 if dtype is torch.int8 else 2
    scale = shift = weight.new_empty(0, dtype=torch.float32)
    if dtype is torch.int8:
        weight, scale = round_rows(weight)
        shift = ZERO * weight.sum(dim=-1).float()
    blocks = weight.to(dtype).reshape(*stack, N // OUTPUTS, OUTPUTS, K // per_word, per_word)
    return Packed(blocks.transpose(-3, -2).contiguous(), scale.contiguous(), shift.contiguous())


def interleave(gate_up: Tensor) -> Tensor:
    """[..., 2F, K], all gates before all ups -> 16 gates, the 16 ups that belong to them, and so on."""
    *stack, G, K = gate_up.shape
    return gate_up.reshape(*stack, 2, G // OUTPUTS, OUTPUTS // 2, K).transpose(-4, -3).reshape(gate_up.shape)

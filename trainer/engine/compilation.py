"""torch.compile for what a training step runs, where it was asked for and a compiler exists."""

import shutil
from collections.abc import Callable

import torch
from torch import Tensor

from trainer.artifacts import Run
from trainer.model.transformer import Transformer
from trainer.objectives import chunked_cross_entropy

CrossEntropy = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def compile_step(model: Transformer, wanted: bool, run: Run) -> CrossEntropy:
    """Compile the network's blocks and return `chunked_cross_entropy`, compiled too, where that is possible.

    The blocks are alike and so share one compiled program: compiling takes as long as for one of them. What was done
    is recorded in the run, and why where it was asked for and not done.
    """
    obstacle = _obstacle(model)
    if wanted and obstacle is not None:
        run.log(f"warning: {obstacle}, so torch.compile is off and training is slower")
    compiled = wanted and obstacle is None
    run.metrics(0, {"compiled": float(compiled)})
    return compile_blocks(model) if compiled else chunked_cross_entropy


def compile_blocks(model: Transformer) -> CrossEntropy:
    """Compile the blocks in place, and the loss. It happens in the first step, and again for other shapes."""
    for block in model.layers:
        block.compile(dynamic=False)
    return torch.compile(chunked_cross_entropy, dynamic=False)


def _obstacle(model: Transformer) -> str | None:
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        return "no C++ compiler (g++ or clang++) was found"
    dtype = next(model.parameters()).dtype
    if dtype != torch.bfloat16:
        return f"torch cannot compile grouped products in {str(dtype).removeprefix('torch.')}"
    return None

"""Weights of 8 bits: integers, and one scale for each output."""

import torch
from torch import Tensor

LARGEST = 127  # of an 8-bit integer, both signs
ZERO = 128  # inputs are stored unsigned, shifted by so much, as the kernels that are fast want them


def round_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[..., N, K] -> the nearest of 255 steps of each row's largest weight, int8 [..., N, K], and that step, float32
    [..., N]: a weight is about integer · step."""
    weight = weight.float()
    step = weight.abs().amax(dim=-1).clamp(min=1e-12) / LARGEST
    return (weight / step.unsqueeze(-1)).round().to(torch.int8), step

"""Matrices laid out for a CPU's kernels, in bfloat16 or in 8-bit integers with one scale for each output.

Shapes: T rows of inputs, D of their numbers, N outputs.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from serving.int8 import LARGEST, ZERO, round_rows

LARGEST_INPUT = LARGEST - 1  # bfloat16 may round it up


class Rows(NamedTuple):
    """Inputs of a matrix, and what its outputs are to be multiplied by, row by row, where anything."""

    values: Tensor
    scale_T1: Tensor | None = None

    def take(self, rows: Tensor) -> "Rows":
        scale = None if self.scale_T1 is None else self.scale_T1.index_select(0, rows)
        return Rows(self.values.index_select(0, rows), scale)

    def part(self, start: int, stop: int) -> "Rows":
        return Rows(self.values[start:stop], None if self.scale_T1 is None else self.scale_T1[start:stop])


class Matrix(Protocol):
    """A packed weight [N, D]."""

    def __init__(self, weight_ND: Tensor) -> None: ...

    def rows(self, x_TD: Tensor) -> Rows:
        """Inputs as the product wants them."""

    def __call__(self, rows: Rows) -> Tensor:
        """x Wᵀ, [T, N] bfloat16."""


class Bf16Matrix:
    def __init__(self, weight_ND: Tensor) -> None:
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight_ND.bfloat16().contiguous(), None)

    def rows(self, x_TD: Tensor) -> Rows:
        return Rows(x_TD)

    def __call__(self, rows: Rows) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows.values, self._packed, None, "none", [], "")
        return product


class Int8Matrix:
    """Rounded row by row. A few rows are multiplied as they are by
    integers converted on the way; more are rounded to integers themselves."""

    FEW = 2

    def __init__(self, weight_ND: Tensor) -> None:
        self._steps_ND, self._scale_N = round_rows(weight_ND)
        self._scale_bf16_N = self._scale_N.bfloat16()
        self._packed = torch.ops.onednn.qlinear_prepack(self._steps_ND, None)
        self._zero_N = torch.zeros(len(weight_ND), dtype=torch.int32)

    def rows(self, x_TD: Tensor) -> Rows:
        if len(x_TD) <= self.FEW:
            return Rows(x_TD)
        steps_T1 = LARGEST_INPUT / x_TD.abs().amax(dim=1, keepdim=True).clamp_(min=1e-12)
        return Rows((x_TD * steps_T1).add_(ZERO).round_().to(torch.uint8), steps_T1.reciprocal_())

    def __call__(self, rows: Rows) -> Tensor:
        if rows.scale_T1 is None:
            return torch._weight_int8pack_mm(rows.values, self._steps_ND, self._scale_bf16_N)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            rows.values, 1.0, ZERO, self._packed, self._scale_N, self._zero_N, None,
            1.0, 0, torch.bfloat16, "none", [], "",
        )  # fmt: skip
        return product.mul_(rows.scale_T1)


def bucket(rows: int) -> int:
    """What a number of rows is padded to: a kernel is built anew for every number not seen before."""
    if rows <= 32:
        return rows
    multiple = 16 if rows <= 256 else 64
    return -(-rows // multiple) * multiple


def buckets(most: int) -> list[int]:
    """All of them up to `most` rows."""
    return sorted({bucket(rows) for rows in range(1, most + 1)})

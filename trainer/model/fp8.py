"""Matrix products in FP8 for attention projections and experts: 8-bit factors, sums in float32, 16-bit results.

Each factor is divided by a scale of its own, max |x| / largest FP8 value, found anew for every product, and the product
is multiplied by both scales (Micikevicius et al. 2022, "FP8 Formats for Deep Learning"). Values are E4M3: 4 bits of
exponent, 3 of mantissa. The gradient that enters a projection is E5M2, which reaches further down; the one that enters
the experts is E4M3, because the grouped kernel takes nothing else. All else stays 16-bit: embeddings are no product,
and in the router and the output projection a rounding decides which expert or token is chosen, for a small part of the
work.

`torch._scaled_mm` and `torch._scaled_grouped_mm` stand here instead of their public names in `torch.nn.functional`
because torch.compile knows only these in torch 2.11. On a GPU they want the left factor laid out by rows, the right one
by columns, and multiples of 16.

Shapes: T tokens, R rows sorted by expert, E experts, K inputs, N outputs.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.attention import Attention
from trainer.model.moe import MoE

VALUES, GRADIENTS = torch.float8_e4m3fn, torch.float8_e5m2
MULTIPLE = 16


class Quantised(NamedTuple):
    """Matrices as `values` · `scale`, the scale float32 [..., 1, 1]."""

    values: Tensor
    scale: Tensor


def quantise(x: Tensor, dtype: torch.dtype) -> Quantised:
    """Round to FP8, laid out by rows; each matrix (the last two dimensions) has a scale."""
    largest = torch.linalg.vector_norm(x, torch.inf, dim=(-2, -1), keepdim=True)
    scale = (largest.float() / torch.finfo(dtype).max).clamp(min=torch.finfo(torch.float32).tiny)
    return Quantised((x / scale).to(dtype).contiguous(), scale)


def _by_columns(x: Tensor) -> Tensor:
    """The same matrices, laid out by columns."""
    return x.mT.contiguous().mT


class _Linear(torch.autograd.Function):
    """y_TN = x_TK w_NK'."""

    @staticmethod
    def forward(ctx: Any, x_TK: Tensor, w_NK: Tensor) -> Tensor:
        x8_TK, w8_NK = quantise(x_TK, VALUES), quantise(w_NK, VALUES)
        ctx.save_for_backward(*x8_TK, *w8_NK)
        scales = x8_TK.scale, w8_NK.scale
        return torch._scaled_mm(x8_TK.values, w8_NK.values.mT, *scales, out_dtype=x_TK.dtype, use_fast_accum=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (grad_TN,) = gradients
        x8_TK, x_scale, w8_NK, w_scale = ctx.saved_tensors
        g8_TN, g_scale = quantise(grad_TN, GRADIENTS)
        dtype = grad_TN.dtype
        grad_x_TK = torch._scaled_mm(g8_TN, _by_columns(w8_NK), g_scale, w_scale, out_dtype=dtype)
        grad_w_NK = torch._scaled_mm(g8_TN.mT.contiguous(), _by_columns(x8_TK), g_scale, x_scale, out_dtype=dtype)
        return grad_x_TK, grad_w_NK


class Fp8Linear(nn.Linear):
    """A linear layer without bias whose three products, forward and backward, are FP8."""

    def forward(self, input: Tensor) -> Tensor:
        x_TK = input.flatten(0, -2)
        T = x_TK.shape[0]
        if T % MULTIPLE:  # the weight's gradient sums over tokens, so their number must be a multiple as well
            x_TK = F.pad(x_TK, (0, 0, 0, -T % MULTIPLE))
        y_TN: Tensor = _Linear.apply(x_TK, self.weight)  # type: ignore[no-untyped-call]
        return y_TN[:T].view(*input.shape[:-1], self.out_features)


class _Grouped(torch.autograd.Function):
    """y_RN: each expert's rows of x_RK times its matrix of w_EKN."""

    @staticmethod
    def forward(ctx: Any, x_RK: Tensor, w_EKN: Tensor, ends_E: Tensor) -> Tensor:
        x8_RK, w8_ENK = quantise(_used(x_RK, ends_E), VALUES), quantise(w_EKN.mT, VALUES)
        ctx.save_for_backward(*x8_RK, *w8_ENK, ends_E)
        w8_EKN = Quantised(w8_ENK.values.mT, w8_ENK.scale)
        return _rows_by_experts(x8_RK, w8_EKN, ends_E, x_RK.dtype, fast=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad_RN,) = gradients
        x8_RK, x_scale, w8_ENK, w_scale, ends_E = ctx.saved_tensors
        g8_RN = quantise(_used(grad_RN, ends_E), VALUES)
        w8_ENK = Quantised(_by_columns(w8_ENK), w_scale)
        grad_x_RK = _rows_by_experts(g8_RN, w8_ENK, ends_E, grad_RN.dtype)
        grad_w_ENK = _summed_over_rows(g8_RN, Quantised(x8_RK, x_scale), ends_E, grad_RN.dtype)
        return grad_x_RK, grad_w_ENK.mT, None


def grouped_mm(x_RK: Tensor, w_EKN: Tensor, *, offs: Tensor) -> Tensor:
    """`torch.nn.functional.grouped_mm` in FP8: [R, N]. The rows of an expert end at its `offs`, a multiple of 16."""
    y_RN: Tensor = _Grouped.apply(x_RK, w_EKN, offs)  # type: ignore[no-untyped-call]
    return y_RN


def _used(x_RK: Tensor, ends_E: Tensor) -> Tensor:
    """Zeros past the last expert's rows: a GPU leaves there what lay in memory, and the scale looks at all rows."""
    unused_R = torch.arange(len(x_RK), device=x_RK.device) >= ends_E[-1]
    return x_RK.masked_fill(unused_R.unsqueeze(1), 0)


def _rows_by_experts(
    a_RK: Quantised, b_EKN: Quantised, ends_E: Tensor, dtype: torch.dtype, fast: bool = False
) -> Tensor:
    """Each expert's rows of a times its b, [R, N]. `fast` sums in fewer bits than float32 on Hopper."""
    R, (E, _, N) = a_RK.values.shape[0], b_EKN.values.shape
    if a_RK.values.is_cuda:  # one kernel, with a scale for each row and each column
        scales = a_RK.scale.expand(R, 1).flatten(), b_EKN.scale.expand(E, N, 1).flatten(1)
        return torch._scaled_grouped_mm(
            a_RK.values, b_EKN.values, *scales, offs=ends_E, out_dtype=dtype, use_fast_accum=fast
        )
    y_RN = a_RK.scale.new_zeros(R, N, dtype=dtype)
    for expert, rows in enumerate(_segments(ends_E)):
        scales = a_RK.scale, b_EKN.scale[expert]
        y_RN[rows] = torch._scaled_mm(a_RK.values[rows], b_EKN.values[expert], *scales, out_dtype=dtype)
    return y_RN


def _summed_over_rows(a_RN: Quantised, b_RK: Quantised, ends_E: Tensor, dtype: torch.dtype) -> Tensor:
    """a' b over each expert's rows, [E, N, K]."""
    E, N, K = len(ends_E), a_RN.values.shape[1], b_RK.values.shape[1]
    a_NR, b_by_columns_RK = a_RN.values.mT.contiguous(), _by_columns(b_RK.values)
    if a_NR.is_cuda:
        scales = a_RN.scale.expand(E * N, 1).flatten(), b_RK.scale.expand(E * K, 1).flatten()
        return torch._scaled_grouped_mm(a_NR, b_by_columns_RK, *scales, offs=ends_E, out_dtype=dtype)
    y_ENK = a_RN.scale.new_zeros(E, N, K, dtype=dtype)
    for expert, rows in enumerate(_segments(ends_E)):
        if rows.stop > rows.start:
            scales = a_RN.scale, b_RK.scale
            y_ENK[expert] = torch._scaled_mm(a_NR[:, rows], b_by_columns_RK[rows], *scales, out_dtype=dtype)
    return y_ENK


def _segments(ends_E: Tensor) -> list[slice]:
    return [slice(start, end) for start, end in pairwise([0, *ends_E.tolist()])]


def to_fp8(model: nn.Module) -> None:
    """Let attention projections and experts multiply in FP8; parameters and their names stay as they are.

    Raises:
        ValueError: the GPU lacks the kernels, or a width is no multiple of 16.
    """
    for module in model.modules():
        if isinstance(module, Attention):
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                setattr(module, name, _fp8_linear(getattr(module, name)))
        elif isinstance(module, MoE):
            _check(module.down_EDF, "hidden_size and intermediate_size")
            module.grouped_mm = grouped_mm


def _fp8_linear(linear: nn.Linear) -> Fp8Linear:
    _check(linear.weight, "hidden_size and the joint width of the key/value heads")
    fp8 = Fp8Linear(linear.in_features, linear.out_features, bias=False, device="meta")
    fp8.weight = linear.weight
    return fp8


def _check(weight: Tensor, widths: str) -> None:
    """Widths count on a CPU too, whose products take any: what starts here must be able to go on on a GPU."""
    *_, rows, columns = weight.shape
    if rows % MULTIPLE or columns % MULTIPLE:
        raise ValueError(
            f"fp8 needs {widths} to be multiples of {MULTIPLE}, but a weight is {rows} x {columns}; "
            "change them, or set precision to bf16"
        )
    if weight.is_cuda and torch.cuda.get_device_capability(weight.device)[0] not in (9, 10):
        raise ValueError(
            f"{torch.cuda.get_device_name(weight.device)} has no grouped FP8 products (compute capability 9 or 10 "
            "has, Hopper or later); set precision to bf16"
        )

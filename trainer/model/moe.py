"""Sparse Mixture of Experts, mathematically Mixtral's: softmax, top-k, weights renormalised, SwiGLU experts.

Shapes: T tokens, E experts, k experts a token, R = T·k rows plus padding, D hidden size, F width of an expert.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.capacity import Room
from trainer.model.config import ModelConfig


class Routing(NamedTuple):
    """Who goes where. `weights_Tk` sum to 1 over k; `choices_Tk` are expert numbers, best first."""

    weights_Tk: Tensor
    choices_Tk: Tensor


def route(logits_TE: Tensor, top_k: int) -> Routing:
    """Softmax over all experts, then the top k, renormalised (Jiang et al. 2024, section 2.1)."""
    weights_Tk, choices_Tk = logits_TE.float().softmax(dim=-1).topk(top_k, dim=-1)
    return Routing(weights_Tk / weights_Tk.sum(dim=-1, keepdim=True), choices_Tk)


def weigh(logits_TE: Tensor, choices_Tk: Tensor) -> Routing:
    """The same with the experts given: their softmax probabilities, renormalised."""
    weights_Tk = logits_TE.float().softmax(dim=-1).gather(1, choices_Tk)
    return Routing(weights_Tk / weights_Tk.sum(dim=-1, keepdim=True), choices_Tk)


def expert_counts(routings: Sequence[Routing], counts_T: Tensor, num_experts: int) -> Tensor:
    """How often each expert of each layer is chosen by a token that counts, int64 [layers, E]."""
    return torch.stack([torch.bincount(r.choices_Tk[counts_T].flatten(), minlength=num_experts) for r in routings])


class Layout(NamedTuple):
    """Rows sorted by expert, each expert's segment padded; see `padding`."""

    row_Tk: Tensor  # row of token t's j-th choice
    ends_E: Tensor  # int32, end of each expert's segment
    rows: int  # enough for any routing, so that shapes do not depend on it; those past the last segment are unused


def padding(choices: int, num_experts: int) -> tuple[int, int]:
    """What each expert's segment is padded to a multiple of, and the most rows that any routing then takes.

    Segments are padded because a CPU's matrix kernels are built anew for every shape not seen before, and because
    `grouped_mm` wants aligned segments.
    """
    multiple = 64 if choices >= 64 * num_experts else 16
    return multiple, (choices + num_experts * (multiple - 1)) // multiple * multiple


def lay_out(choices_Tk: Tensor, num_experts: int) -> Layout:
    """Where each (token, choice) lies once rows are grouped by expert."""
    choices_R = choices_Tk.flatten()
    multiple, rows = padding(len(choices_R), num_experts)
    is_for_RE = choices_R.unsqueeze(1) == torch.arange(num_experts, device=choices_R.device)
    place_RE = is_for_RE.cumsum(0)  # how many of an expert's rows come up to here
    padded_E = (place_RE[-1] + multiple - 1) // multiple * multiple
    ends_E = padded_E.cumsum(0)
    row_R = (ends_E - padded_E)[choices_R] + place_RE.gather(1, choices_R.unsqueeze(1)).squeeze(1) - 1
    return Layout(row_R.view_as(choices_Tk), ends_E.int(), rows)


class _Dispatch(torch.autograd.Function):
    """x_TD -> x_RD: copy each token to its rows; backward gathers, since every row has one token."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, row_Tk: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(row_Tk)
        x_RD = x_TD.new_zeros(rows, x_TD.shape[1])
        for row_T in row_Tk.unbind(1):
            x_RD.index_copy_(0, row_T, x_TD)
        return x_RD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (row_Tk,) = ctx.saved_tensors
        first, *others = (gradients[0].index_select(0, row_T) for row_T in row_Tk.unbind(1))
        return sum(others, start=first), None, None


class _Combine(torch.autograd.Function):
    """y_RD -> y_TD: sum of each token's rows times its weights."""

    @staticmethod
    def forward(ctx: Any, y_RD: Tensor, weights_Tk: Tensor, row_Tk: Tensor) -> Tensor:
        ctx.save_for_backward(y_RD, weights_Tk, row_Tk)
        terms = [
            y_RD.index_select(0, row_T) * weight_T.unsqueeze(1).to(y_RD.dtype)
            for row_T, weight_T in zip(row_Tk.unbind(1), weights_Tk.unbind(1), strict=True)
        ]
        return sum(terms[1:], start=terms[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad_TD,) = gradients
        y_RD, weights_Tk, row_Tk = ctx.saved_tensors
        grad_RD = torch.zeros_like(y_RD)
        grad_weights = []
        for row_T, weight_T in zip(row_Tk.unbind(1), weights_Tk.unbind(1), strict=True):
            grad_RD.index_copy_(0, row_T, grad_TD * weight_T.unsqueeze(1).to(y_RD.dtype))
            grad_weights.append((y_RD.index_select(0, row_T) * grad_TD).sum(dim=1, dtype=weights_Tk.dtype))
        return grad_RD, torch.stack(grad_weights, dim=1), None


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up of stacked [R, 2F] -> [R, F]; backward writes both halves of the gradient side by side."""

    @staticmethod
    def forward(ctx: Any, gate_up_RG: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up_RG)
        gate_RF, up_RF = gate_up_RG.chunk(2, dim=1)
        return F.silu(gate_RF) * up_RF

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gate_up_RG,) = ctx.saved_tensors
        gate_RF, up_RF = gate_up_RG.chunk(2, dim=1)
        (grad_RF,) = gradients
        grad_gate_RF = torch.ops.aten.silu_backward(grad_RF * up_RF, gate_RF)
        return torch.cat((grad_gate_RF, grad_RF * F.silu(gate_RF)), dim=1)


class MoE(nn.Module):
    """A router and E experts held as one 3-D parameter per projection (gate and up stacked: G = 2F)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        E, D, width = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.router = nn.Linear(D, E, bias=False)
        self.gate_up_EGD = nn.Parameter(torch.empty(E, 2 * width, D))
        self.down_EDF = nn.Parameter(torch.empty(E, D, width))
        self.grouped_mm: Callable[..., Tensor] = F.grouped_mm  # trainer.model.fp8 puts its own here

    def forward(self, x_TD: Tensor, room: Room | None = None) -> tuple[Tensor, Tensor, Routing]:
        """Returns the mixed output [T, D], the router's logits [T, E] and where the tokens went."""
        logits_TE = self.router(x_TD)
        routing = route(logits_TE, self.config.num_experts_per_tok)
        if room is not None:
            routing = weigh(logits_TE, room.assign(logits_TE, routing.choices_Tk).choices_Tk)
        layout = lay_out(routing.choices_Tk, self.config.num_local_experts)
        x_RD: Tensor = _Dispatch.apply(x_TD, layout.row_Tk, layout.rows)  # type: ignore[no-untyped-call]
        y_RD = self.experts(x_RD, layout.ends_E)
        y_TD: Tensor = _Combine.apply(y_RD, routing.weights_Tk, layout.row_Tk)  # type: ignore[no-untyped-call]
        return y_TD, logits_TE, routing

    def experts(self, x_RD: Tensor, ends_E: Tensor) -> Tensor:
        """down(silu(gate x) · up x), each expert on its own segment of rows."""
        gate_up_RG = self.grouped_mm(x_RD, self.gate_up_EGD.transpose(1, 2), offs=ends_E)
        hidden_RF: Tensor = _SwiGLU.apply(gate_up_RG)  # type: ignore[no-untyped-call]
        return self.grouped_mm(hidden_RF, self.down_EDF.transpose(1, 2), offs=ends_E)

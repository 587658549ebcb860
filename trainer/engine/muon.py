"""Muon: momentum whose matrices are orthogonalised before the step. Stacks of experts are matrices in a batch."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Quintic whose iteration drives every singular value towards 1 from anywhere in (0, 1] (Jordan et al. 2024).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
# An orthogonal m x n matrix has entries of rms 1/sqrt(max(m, n)); this makes the step's rms that of AdamW, so that
# both share a learning rate (Liu et al. 2025, "Muon is scalable for LLM training", section 2.2).
_ADAMW_RMS = 0.2


def orthogonalise(matrices_NIO: Tensor) -> Tensor:
    """The nearest matrices whose singular values are all about 1, by Newton-Schulz iteration in bf16, [N, I, O]."""
    x = matrices_NIO.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = _A * x + torch.bmm(_B * gram + _C * torch.bmm(gram, gram), x)
    nearest: Tensor = x.mT if tall else x
    return nearest


def is_inner_matrix(name: str, tensor: Tensor) -> bool:
    """What Muon is for: matrices of the layers, but for the router, whose rows are experts and no mixing of inputs."""
    return "layers." in name and tensor.dim() > 1 and "router" not in name


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay; for parameters of two or three dimensions."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; parameters of one shape are orthogonalised together."""
        assert closure is None
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape[-2:]].append(parameter)
            for parameters in by_shape.values():
                self._step_together(parameters, group)

    def _step_together(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        momenta = [self._momentum(parameter, group["momentum"]) for parameter in parameters]
        rows, columns = parameters[0].shape[-2:]
        directions = orthogonalise(torch.cat([momentum.view(-1, rows, columns) for momentum in momenta]))
        step = group["lr"] * _ADAMW_RMS * max(rows, columns) ** 0.5
        counts = [parameter.numel() // (rows * columns) for parameter in parameters]
        for parameter, direction in zip(parameters, torch.split(directions, counts), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(direction.view_as(parameter).to(parameter.dtype), alpha=-step)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Nesterov's look-ahead of the running mean of gradients."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["momentum"], momentum)

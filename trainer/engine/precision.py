"""Which number format a run computes in, and the float32 master copy that the optimiser steps."""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from trainer.engine.muon import Muon, is_inner_matrix
from trainer.model.fp8 import to_fp8
from trainer.spec import Optimizer, Precision

Network = TypeVar("Network", bound=nn.Module)
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The format of parameters and of all that lies between products; fp8 itself is a matter of the products alone.

    'auto' is bf16 on a GPU and on processors with bf16 instructions, float32 elsewhere (there bf16 is emulated).
    """
    if precision == "auto":
        fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    return FORMATS[precision]


def place(network: Network, precision: Precision, device: torch.device) -> Network:
    """Bring a network to its device and into the formats that a run computes in.

    Raises:
        ValueError: fp8 that the device or the network's widths do not allow.
    """
    network = network.to(device, resolve_precision(precision, device))
    if precision == "fp8":
        to_fp8(network)
    return network


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


MOMENTS = ("step", "exp_avg", "exp_avg_sq", "momentum")


class MasterOptimizer:
    """AdamW, or Muon for the matrices inside the layers, on float32 copies of parameters that may be 16-bit themselves.

    Weight decay applies to matrices only. For a float32 network the copies are the parameters themselves.
    """

    def __init__(self, model: nn.Module, settings: Optimizer) -> None:
        self.settings = settings
        self.names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.masters = [p if p.dtype == torch.float32 else p.detach().float() for p in self.parameters]
        self.optimizers = self._optimizers()

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        settings, optimizers = self.settings, list[torch.optim.Optimizer]()
        named = list(zip(self.names, self.masters, strict=True))
        inner = [name for name, master in named if settings.name == "muon" and is_inner_matrix(name, master)]
        if inner:
            matrices = [master for name, master in named if name in inner]
            optimizers.append(Muon(matrices, settings.lr, settings.weight_decay))
        rest = [master for name, master in named if name not in inner]
        groups = [
            {"params": [master for master in rest if master.dim() > 1], "weight_decay": settings.weight_decay},
            {"params": [master for master in rest if master.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizers.append(torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True))
        return optimizers

    def step(self, lr: float, loss_scale: float = 1.0) -> float:
        """Unscale, clip, step, copy back to the network, clear gradients. Returns the gradient norm before clipping.

        Where that is not finite no step is taken: weights and moments are as before.
        """
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if master is not parameter:
                master.grad = parameter.grad.float()
            if loss_scale != 1:
                assert master.grad is not None
                master.grad /= loss_scale
        norm = float(nn.utils.clip_grad_norm_(self.masters, self.settings.clip))
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.step()
            self.publish()
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the network."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if master is not parameter:
                parameter.copy_(master)

    def weights(self) -> dict[str, Tensor]:
        """Name -> float32 master weight."""
        return {name: master.detach() for name, master in zip(self.names, self.masters, strict=True)}

    def state(self) -> dict[str, Tensor]:
        """Weights and moments, flat, for a snapshot."""
        flat = {f"weight/{name}": tensor for name, tensor in self.weights().items()}
        for name, master in zip(self.names, self.masters, strict=True):
            for optimizer in self.optimizers:
                flat |= {f"{key}/{name}": value for key, value in optimizer.state.get(master, {}).items()}
        return flat

    @torch.no_grad()
    def load_state(self, flat: dict[str, Tensor]) -> None:
        """Take over what `state` returned for the same network and settings."""
        owner = {id(p): o for o in self.optimizers for group in o.param_groups for p in group["params"]}
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(flat[f"weight/{name}"])
            saved = {key: flat[f"{key}/{name}"] for key in MOMENTS if f"{key}/{name}" in flat}
            owner[id(master)].state[master] = {key: t.to(master.device, copy=True) for key, t in saved.items()}
        self.publish()

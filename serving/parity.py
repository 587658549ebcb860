"""Does this network compute what the trainer's did? Compared with the record that was taken from the live weights.

Shapes: P prompts, L tokens, V vocabulary, k experts a token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trainer.model.moe import route
from trainer.model.transformer import Transformer

PARITY_FILE, TOLERANCE_FILE = "parity.safetensors", "parity.json"
KEYS = ("tokens", "lengths", "logits", "choices", "margins")

# One prompt's tokens -> (scores [L, V], router scores [L, E] of each layer), all float32.
Forward = Callable[[list[int]], tuple[Tensor, tuple[Tensor, ...]]]


@dataclass(frozen=True)
class Parity:
    """What the comparison found; differences are of logits, absolute."""

    max_difference: float
    positions: int
    excused: int  # positions after an expert choice that was too close to call
    unused_experts: int  # (layer, expert) pairs that no token of the record chose: not covered


def read_record(folder: Path) -> dict[str, Tensor]:
    """The parity record of a checkpoint or export.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = folder / PARITY_FILE
    try:
        record: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read, so parity with training cannot be checked: {error}") from error
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; save the checkpoint again with this version")
    return record


def check_parity(forward: Forward, record: dict[str, Tensor], tolerance: float) -> Parity:
    """Run every prompt of the record and compare logits and expert choices.

    Where the trainer's choice of the last expert was closer than `tolerance` (of probability), another choice is
    allowed, and the logits from that token on are excused, since they may differ by any amount.

    Raises:
        ValueError: a logit differs by more than `tolerance`, or another expert was chosen; says where.
    """
    worst, positions, excused, unused_experts = 0.0, 0, 0, 0
    for prompt, length in enumerate(record["lengths"].tolist()):
        logits_LV, routers = forward(record["tokens"][prompt, :length].tolist())
        first = _first_flip(prompt, length, routers, record, tolerance)
        difference = (logits_LV[:first].cpu() - record["logits"][prompt, :first]).abs()
        # A comparison with NaN is false, so "not within" also refuses a network that gives no numbers.
        if first and not float(difference.max()) <= tolerance:
            position = int(difference.amax(dim=1).argmax())
            raise ValueError(
                f"parity check failed: logits differ from training by {float(difference.max()):.3g} (allowed: "
                f"{tolerance:g}), worst at prompt {prompt}, position {position}; not the network that was trained"
            )
        worst = max(worst, float(difference.max()) if first else 0.0)
        positions, excused = positions + length, excused + length - first
        unused_experts = _unused_experts(record, routers[0].shape[1])
    if excused == positions:
        raise ValueError("parity check failed: every position hangs on an expert choice too close to compare")
    return Parity(worst, positions, excused, unused_experts)


def _first_flip(
    prompt: int, length: int, routers: tuple[Tensor, ...], record: dict[str, Tensor], tolerance: float
) -> int:
    """The first position with another, excusable, choice of experts; `length` when there is none."""
    first = length
    for layer, router_LE in enumerate(routers):
        recorded_Lk = record["choices"][layer, prompt, :length].sort(dim=-1).values
        chosen_Lk = route(router_LE, recorded_Lk.shape[1]).choices_Tk.cpu().sort(dim=-1).values
        differs_L = (chosen_Lk != recorded_Lk).any(dim=-1)
        # After an excused flip, in this layer or below, everything may differ.
        for position in differs_L[:first].nonzero().flatten().tolist():
            margin = float(record["margins"][layer, prompt, position])
            if margin > tolerance:
                raise ValueError(
                    f"parity check failed: layer {layer} sends token {position} of prompt {prompt} to experts "
                    f"{chosen_Lk[position].tolist()}, training sent it to {recorded_Lk[position].tolist()} "
                    f"(margin {margin:.3g}); experts or router are not those that were trained"
                )
            first = position
            break
    return first


def _unused_experts(record: dict[str, Tensor], num_experts: int) -> int:
    choices = record["choices"]
    return sum(num_experts - len(set(layer.flatten().tolist())) for layer in choices)


def network_forward(model: Transformer) -> Forward:
    """The plain network, without a cache."""

    @torch.inference_mode()
    def forward(tokens: list[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
        output = model(torch.tensor([tokens], device=model.embed_tokens.weight.device))
        return model.logits(output.hidden_BLD[0]), output.router_logits_TE

    return forward

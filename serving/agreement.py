"""How near a quantised or otherwise rounded network is to the trained one, where equality cannot be asked for.

Shapes: L tokens, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.objectives import categorical_kl

Logits = Callable[[list[int]], Tensor]  # one prompt's tokens -> logits [L, V]


@dataclass(frozen=True)
class Agreement:
    """Means over all positions of the parity record.

    kl: KL(trained ‖ this one) of the next token, nat; top1: share of positions whose likeliest token is the same;
    difference: the largest of a logit; positions: how many were compared.
    """

    kl: float
    top1: float
    difference: float
    positions: int


def agreement(logits: Logits, record: dict[str, Tensor]) -> Agreement:
    """Compare with the record that the trainer took, prompt by prompt."""
    kls, same, differences = [], [], []
    for prompt, length in enumerate(record["lengths"].tolist()):
        trained_LV = record["logits"][prompt, :length].float()
        found_LV = logits(record["tokens"][prompt, :length].tolist()).float().cpu()[:, : trained_LV.shape[1]]
        kls.append(categorical_kl(trained_LV, found_LV))
        differences.append((found_LV - trained_LV).abs().amax(dim=-1))
        same.append(trained_LV.argmax(dim=-1) == found_LV.argmax(dim=-1))
    kl, top1 = float(torch.cat(kls).mean()), float(torch.cat(same).float().mean())
    return Agreement(kl, top1, float(torch.cat(differences).max()), sum(map(len, kls)))


def check_agreement(logits: Logits, record: dict[str, Tensor], max_kl: float) -> Agreement:
    """Raises: ValueError: the mean KL exceeds `max_kl`, or is no number."""
    found = agreement(logits, record)
    # A comparison with NaN is false, so "not within" also refuses a network that gives no numbers.
    if not found.kl <= max_kl:
        raise ValueError(
            f"the network differs from the trained one by a mean KL of {found.kl:.3g} nat per token (allowed: "
            f"{max_kl:g}), with the same likeliest token at {found.top1:.0%} of positions; if that is "
            "meant, raise max_kl"
        )
    return found

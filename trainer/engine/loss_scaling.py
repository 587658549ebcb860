"""The article's dynamic loss scaling: a state machine without clock or counter, for gradients in fp16.

fp16 knows no magnitude below 6e-8 and none above 65,504. The loss is multiplied by a scale before the backward pass
and the gradients are divided by it in float32, so that they lie between the two.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.spec import LossScaling

SMALLEST, LARGEST = 1.0, 2.0**16
FALL, RISE = 4.0, 2.0


@dataclass(frozen=True)
class LossScale:
    """What the loss is multiplied by; a power of two if it began as one, so that dividing by it again is exact."""

    value: float = LARGEST

    def __post_init__(self) -> None:
        assert SMALLEST <= self.value <= LARGEST, f"a loss scale of {self.value} lies outside of [1, 2^16]"

    def after(self, *, overflow: bool, underflow: bool) -> "LossScale":
        """The state after a step: scale / 4 (at least 1), scale · 2 (at most 2^16), or as it was.

        An overflow counts first: zeros beside infinities say nothing about the scale.
        """
        if overflow:
            return LossScale(max(self.value / FALL, SMALLEST))
        if underflow:
            return LossScale(min(self.value * RISE, LARGEST))
        return self


def zero_gradient_share(gradients: Iterable[Tensor]) -> float:
    """Share of exactly-zero elements in those rows (last dimension) of gradients that are not zero altogether.

    A row of zeros is a token that did not occur or an expert that got none, not an underflow. Where all rows are zero,
    or there is none, the share is 1.
    """
    nonzero, elements = torch.zeros((), dtype=torch.long), torch.zeros((), dtype=torch.long)
    for gradient in gradients:
        count = gradient.count_nonzero(dim=-1)
        nonzero, elements = nonzero + count.sum(), elements + (count > 0).sum() * gradient.shape[-1]
    return 1 - nonzero.item() / elements.item() if elements else 1.0


def is_underflow(settings: LossScaling, loss: float, zero_share: float) -> bool:
    """Whether a step asks for a larger scale.

    The article's literal rule, loss == 0, never holds for a cross-entropy; then the scale can only fall.
    """
    return loss == 0 if settings.underflow == "zero_loss" else zero_share > settings.zero_share

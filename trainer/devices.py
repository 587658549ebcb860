"""Processors that a run may stand on: memory, peak speed without sparsity, what an hour costs. Imports no torch."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["fp32", "fp16", "bf16", "fp8"]


@dataclass(frozen=True)
class Gpu:
    """`mark` is what CUDA's name of the card contains; operations a second, bytes, US dollars an hour."""

    mark: str
    memory: float
    fp32: float
    bf16: float
    fp8: float | None
    dollars_per_hour: float | None = None

    def peak(self, format: Format) -> float | None:
        """Operations a second; None where the card has no such format."""
        return {"fp32": self.fp32, "fp16": self.bf16, "bf16": self.bf16, "fp8": self.fp8}[format]


# NVIDIA's data sheets (tensor cores, half of the figures "with sparsity"; fp32 without tensor cores). The more special
# mark comes first. Prices: middle of what specialised clouds asked on demand in May 2026 (see PRICE_SOURCE).
GPUS = (
    Gpu("H100 PCIe", 80e9, 51e12, 756e12, 1513e12),
    Gpu("H100 NVL", 94e9, 60e12, 835e12, 1670e12),
    Gpu("H100", 80e9, 67e12, 989e12, 1979e12, 3.0),
    Gpu("H200 NVL", 141e9, 60e12, 835e12, 1670e12),
    Gpu("H200", 141e9, 67e12, 989e12, 1979e12, 4.0),
    Gpu("A100", 80e9, 19.5e12, 312e12, None, 1.3),
    Gpu("B200", 180e9, 75e12, 2250e12, 4500e12),
    Gpu("L40S", 48e9, 91.6e12, 362e12, 733e12),
)
PRICE_SOURCE = (
    "middle of the on-demand prices of specialised clouds in May 2026 (A100 1.10-1.50, H100 2.50-3.50, H200 3.50-4.50; "
    "mercatus-ai.com/blog/cloud-gpu-pricing)"
)


def find_gpu(name: str) -> Gpu | None:
    """The entry of a card by CUDA's name of it, or by its mark in any case; None when it is not in the table."""
    return next((gpu for gpu in GPUS if gpu.mark.lower() in name.lower()), None)

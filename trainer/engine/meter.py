"""What a training step did: tokens and operations a second, their share of the processor's peak, memory."""

import resource
import sys
import time

import torch
from torch import nn

from trainer.artifacts import Run
from trainer.devices import Format, find_gpu

FORMATS: dict[torch.dtype, Format] = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
_MEASURE_S = 0.1


class Meter:
    """Reports on the steps of one run; the peak is looked up or measured with the first report, and logged."""

    def __init__(self, run: Run, model: nn.Module) -> None:
        self.run, self.model = run, model
        self._peak: float | None = None

    def report(self, tokens: int, flops: float, seconds: float) -> dict[str, float]:
        """Metrics of a step that processed `tokens` with `flops` operations in `seconds`; `mfu` is a share."""
        if self._peak is None:
            self._peak = self._find_peak(tokens)
        device = next(self.model.parameters()).device
        return {
            "tokens_per_second": tokens / seconds,
            "flops": flops,
            "mfu": flops / seconds / self._peak,
            "peak_memory_bytes": float(peak_memory(device)),
        }

    def _find_peak(self, tokens: int) -> float:
        widest = max((p for p in self.model.parameters() if p.dim() > 1), key=lambda p: p.shape[-1] * p.shape[-2])
        format = FORMATS[widest.dtype]
        name = torch.cuda.get_device_name(widest.device) if widest.device.type == "cuda" else ""
        gpu = find_gpu(name) if name else None
        listed = gpu.peak(format) if gpu else None
        if listed is not None:
            self.run.log(
                f"MFU is counted against {listed / 1e12:.0f} TFLOP/s, the data sheet's {format} peak of a {name}"
            )
            return listed
        columns, inner = widest.shape[-2:]
        peak = measured_peak(tokens, inner, columns, widest.dtype, widest.device)
        self.run.log(
            f"MFU is counted against {peak / 1e9:,.0f} GFLOP/s, measured here in {format} by products of "
            f"{tokens} x {inner} with {inner} x {columns}"
        )
        return peak


def measured_peak(rows: int, inner: int, columns: int, dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of products [rows, inner] x [inner, columns]: the fastest within a tenth of a second."""
    left = torch.ones(rows, inner, dtype=dtype, device=device)
    right = torch.ones(columns, inner, dtype=dtype, device=device).T
    fastest, spent = float("inf"), 0.0
    while spent < _MEASURE_S:
        began = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - began
        fastest, spent = min(fastest, seconds), spent + seconds
    return 2.0 * rows * inner * columns / fastest


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: by torch's tensors on a GPU, by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

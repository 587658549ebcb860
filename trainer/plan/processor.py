"""The kind of device a run is planned for, with where each of its figures comes from."""

from dataclasses import dataclass, replace

import psutil
import torch

from trainer.devices import GPUS, PRICE_SOURCE, Format, find_gpu
from trainer.engine.meter import FORMATS, measured_peak
from trainer.engine.precision import resolve_precision
from trainer.plan.works import Work

GPU_MFU = (0.35, "published for MoE training: 0.15 to 0.40 in common stacks, 0.47 for Mixtral in Megatron-Core")
CPU_MFU = (0.3, "a guess; a run reports its own as the metric mfu")
MEASURED_ROWS = 4096
GIVEN = "as given"


@dataclass(frozen=True)
class Processor:
    """What one device offers: bytes, operations a second at its peak, the share of them that training reaches."""

    name: str
    memory: float
    format: Format
    peak: float
    peak_source: str
    mfu: float
    mfu_source: str
    dollars_per_hour: float | None = None
    price_source: str = ""


def processor_for(work: Work, name: str, mfu: float | None = None, price: float | None = None) -> Processor:
    """A GPU from the table, or "cpu": this machine, its peak measured. `mfu` and `price` take the defaults' place.

    Raises:
        ValueError: the device is unknown, or has not the run's number format.
    """
    found = _this_cpu(work) if name == "cpu" else _gpu(work, name)
    if mfu is not None:
        found = replace(found, mfu=mfu, mfu_source=GIVEN)
    return found if price is None else replace(found, dollars_per_hour=price, price_source=GIVEN)


def _gpu(work: Work, name: str) -> Processor:
    gpu = find_gpu(name)
    if gpu is None:
        raise ValueError(f"unknown device '{name}'; there are: cpu, {', '.join(gpu.mark for gpu in GPUS)}")
    format: Format = "bf16" if work.precision == "auto" else work.precision
    peak = gpu.peak(format)
    if peak is None:
        raise ValueError(f"{gpu.mark} has no {format} products; plan with precision bf16")
    found = Processor(gpu.mark, gpu.memory, format, peak, "data sheet, without sparsity", *GPU_MFU)
    price = gpu.dollars_per_hour
    return found if price is None else replace(found, dollars_per_hour=price, price_source=PRICE_SOURCE)


def _this_cpu(work: Work) -> Processor:
    dtype = resolve_precision(work.precision, torch.device("cpu"))
    rows = min(work.rows_on_one_of(1) * work.context, MEASURED_ROWS)
    columns = 2 * work.model.intermediate_size
    peak = measured_peak(rows, work.model.hidden_size, columns, dtype, torch.device("cpu"))
    source = f"measured by products of {rows} x {work.model.hidden_size} with {work.model.hidden_size} x {columns}"
    return Processor("cpu", float(psutil.virtual_memory().total), FORMATS[dtype], peak, source, *CPU_MFU)

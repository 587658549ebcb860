"""One run on one kind of device: what it holds, computes, lasts and costs. Nothing is trained, no weight stored."""

from collections.abc import Iterator
from dataclasses import dataclass

from trainer.flops import Flops, forward_flops, training_flops
from trainer.model.config import ModelConfig
from trainer.model.transformer import Parameters, count_parameters
from trainer.plan import memory
from trainer.plan.processor import Processor
from trainer.plan.works import Work

USABLE = 0.9  # of a device's memory
MOST_DEVICES = 2**16


@dataclass(frozen=True)
class Placement:
    """Bytes on each device in one layout; `recomputed` takes the place of `activations` with checkpointing."""

    layout: str
    devices: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    recomputed: float
    fits: bool
    fits_recomputed: bool


@dataclass(frozen=True)
class Plan:
    """Bytes, operations, hours, US dollars. `forward` and `step_flops` are those of one step on all devices."""

    name: str
    model: ModelConfig
    parameters: Parameters
    processor: Processor
    devices: int
    fewest_devices: int | None
    rows_a_device: int
    context: int
    placements: tuple[Placement, ...]
    kv_bytes: int
    forward: Flops
    step_flops: float
    tokens: float
    flops: float
    device_hours: float
    dollars: float | None
    checkpoint_bytes: int
    snapshot_bytes: int
    assumptions: tuple[str, ...]


def estimate(work: Work, processor: Processor, devices: int | None = None) -> Plan:
    """Everything about one run on `devices` processors; None: the fewest, a power of two, on which a layout fits."""
    parameters = count_parameters(work.model)
    fewest = fewest_devices(work, parameters, processor)
    devices = devices or fewest or MOST_DEVICES
    rows = work.rows_on_one_of(devices)
    flops = training_flops(work.model, 1, work.context) * work.tokens / work.context
    device_hours = flops / (processor.peak * processor.mfu) / 3600
    price = processor.dollars_per_hour
    return Plan(
        name=work.name,
        model=work.model,
        parameters=parameters,
        processor=processor,
        devices=devices,
        fewest_devices=fewest,
        rows_a_device=rows,
        context=work.context,
        placements=tuple(placements(work, parameters, processor, devices)),
        kv_bytes=memory.kv_bytes(work.model, work.model.max_position_embeddings, processor.format),
        forward=forward_flops(work.model, rows * devices, work.context),
        step_flops=training_flops(work.model, rows * devices, work.context),
        tokens=work.tokens,
        flops=flops,
        device_hours=device_hours,
        dollars=None if price is None else device_hours * price,
        checkpoint_bytes=memory.checkpoint_bytes(parameters),
        snapshot_bytes=memory.snapshot_bytes(work.model, parameters, work.optimizer),
        assumptions=(*work.assumed.values(), *_assumptions(processor)),
    )


def placements(work: Work, parameters: Parameters, processor: Processor, devices: int) -> Iterator[Placement]:
    """Every layout on so many devices."""
    for layout in memory.layouts(work.model, devices):
        rows = work.rows_on_one_of(layout.devices)
        states = memory.state_bytes(work.model, parameters, layout, processor.format, work.optimizer)
        activations = memory.activation_bytes(work.model, rows, work.context, processor.format)
        kept, recomputed = (memory.kept_bytes(work.model, activations, recompute) for recompute in (False, True))
        room = USABLE * processor.memory - sum(states)
        sizes = (*states, kept, recomputed)
        yield Placement(str(layout), layout.devices, *sizes, fits=kept <= room, fits_recomputed=recomputed <= room)


def fewest_devices(work: Work, parameters: Parameters, processor: Processor) -> int | None:
    """The smallest power of two on which some layout fits, with recomputation if need be; a CPU stands alone."""

    def fits(devices: int) -> bool:
        return any(found.fits or found.fits_recomputed for found in placements(work, parameters, processor, devices))

    numbers = [1] if processor.name == "cpu" else [2**n for n in range(MOST_DEVICES.bit_length())]
    return next(filter(fits, numbers), None)


def _assumptions(processor: Processor) -> tuple[str, ...]:
    price = processor.dollars_per_hour
    return (
        f"peak {processor.peak / 1e9:,.0f} GFLOP/s in {processor.format}: {processor.peak_source}",
        f"MFU {processor.mfu}: {processor.mfu_source} (--mfu)",
        "price not known (--price-per-hour)"
        if price is None
        else f"price ${price:.2f} a device and hour: {processor.price_source} (--price-per-hour)",
        f"{USABLE:.0%} of a device's memory counted on; the rest is for buffers, fragments and the libraries",
        "activations as the network keeps them without a compiler; attention as if each row were one document",
        "no step is repeated; loading, evaluation and saving take no time",
    )

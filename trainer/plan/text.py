"""A plan as text for people."""

import math
from collections.abc import Iterator, Sequence

from trainer.plan.estimate import Placement, Plan

HEADER = ("layout", "weights", "gradients", "optimizer", "activations", "(recomputed)", "in all", "fits")


def text(plan: Plan) -> str:
    return "\n".join(_lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    counts, forward, devices = plan.parameters, plan.forward, f"{plan.devices:,} x {plan.processor.name}"
    step = plan.rows_a_device * plan.devices * plan.context
    share, hours = counts.active / counts.total, plan.device_hours / plan.devices
    yield f"{plan.name} on {devices}"
    yield ""
    yield f"parameters  {_count(counts.total)}, of which a token activates {_count(counts.active)} ({share:.1%})"
    yield f"a step      {step:,} tokens, {plan.rows_a_device:,} x {plan.context:,} on each device"
    yield f"  forward   {_count(forward.products)}FLOP with weights, {_count(forward.attention)}FLOP in attention"
    yield f"  and back  {_count(plan.step_flops)}FLOP in all"
    yield f"the run     {_count(plan.tokens)} tokens, {_count(plan.flops)}FLOP, {hours:,.4g} hours on {devices}"
    yield f"money       {'unknown' if plan.dollars is None else f'${plan.dollars:,.2f}'}"
    yield f"disk        {_bytes(plan.checkpoint_bytes)} a checkpoint, {_bytes(plan.snapshot_bytes)} for snapshots"
    yield f"KV cache    {_bytes(plan.kv_bytes)} a sequence of {plan.model.max_position_embeddings:,} tokens"
    yield ""
    yield f"Memory of each device, which has {_bytes(plan.processor.memory)}:"
    yield from _table([HEADER, *map(_row, plan.placements)])
    yield _verdict(plan)
    yield ""
    yield "Assumed:"
    yield from (f"- {assumption}" for assumption in plan.assumptions)


def _row(placement: Placement) -> tuple[str, ...]:
    states = (placement.weights, placement.gradients, placement.optimizer)
    kept = placement.recomputed if placement.fits_recomputed and not placement.fits else placement.activations
    fits = "yes" if placement.fits else "recomputed" if placement.fits_recomputed else "no"
    sizes = (*states, placement.activations, placement.recomputed, sum(states) + kept)
    return (placement.layout, *map(_bytes, sizes), fits)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells])


def _verdict(plan: Plan) -> str:
    if plan.fewest_devices is None:
        return "No layout fits, on however many devices: take fewer or shorter rows."
    number = f"{plan.fewest_devices:,} device{'s' if plan.fewest_devices > 1 else ''}"
    return f"Fewest on which a layout fits, in powers of two: {number}."


def _count(value: float) -> str:
    """1.082 G, 402.8 M: what is counted follows as a word or a unit."""
    units = ("", "k", "M", "G", "T", "P", "E", "Z")
    power = min(int(math.log10(max(value, 1))) // 3, len(units) - 1)
    return f"{value / 1000**power:.4g} {units[power]}"


def _bytes(value: float) -> str:
    return _count(value) + "B"

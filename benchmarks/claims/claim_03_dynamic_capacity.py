"""Claim 3: dynamic expert capacity raises compute utilisation from 62 to 89 %.

Utilisation is Σ min(load_i, slots_i) / Σ slots_i: the share of paid-for slots that do work, where the load is what an
expert computes, after tokens that found theirs full went on to another. Both arms train the nano network with its
specialists, whose groups get as uneven a load as the domains are. The dynamic arm's slots are those of
trainer/model/capacity.py. The static arm gives every expert of a layer the same number of slots, scaled after each step
so that as many choices find their expert full as in the dynamic arm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch

from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.training import Capacity, nano_spec, new_network, train
from trainer.data.rows import Batch
from trainer.engine.dynamic_capacity import DynamicCapacity, capacity_metrics
from trainer.model.capacity import FACTOR, Room, slots_of
from trainer.model.config import ModelConfig
from trainer.model.moe import route
from trainer.model.transformer import Output
from trainer.spec import SftSpec, SpecialistSettings

STEPS, QUICK_STEPS = 400, 120
WARM_SHARE = 0.5  # the first half of the steps only warms the router and the running means up


@dataclass
class State:
    """Where `DynamicCapacity` keeps what it remembers; no run is resumed here."""

    generator: torch.Generator
    memory: dict[str, Any] = field(default_factory=dict)


class StaticCapacity:
    """As many slots for each expert of a layer, so many that overflow comes to the wanted share.

    The scale follows the overflow by integral control: over n steps the mean overflow misses the wanted one by at most
    |log of the scale's change| / n.
    """

    def __init__(self, config: ModelConfig, wanted_overflow: float) -> None:
        self.config, self.wanted, self.factor = config, wanted_overflow, FACTOR

    def rooms(self, batch: Batch) -> list[Room]:
        real_T = (batch.segments_BL > 0).flatten()
        even_1E = torch.ones(1, self.config.num_local_experts)
        slots_E = slots_of(even_1E, self.config.num_experts_per_tok * int(real_T.sum()), self.factor)[0]
        return [Room(slots_E, len(batch.segments_BL), real_T)] * self.config.num_hidden_layers

    def observe(self, output: Output, batch: Batch) -> None:
        overflow = capacity_metrics(output, self.rooms(batch))["capacity/overflow"]
        self.factor *= math.exp(overflow - self.wanted)


def watched_training(spec: SftSpec, capacity: Capacity) -> dict[str, float]:
    """Train under a capacity; means over the later steps of what came of it."""
    model, seen = new_network(spec), list[dict[str, float]]()

    def watch(step: int, output: Output, batch: Batch, rooms: Sequence[Room] | None) -> None:
        if step >= WARM_SHARE * spec.steps:
            assert rooms is not None
            seen.append({**capacity_metrics(output, rooms), "busiest_over_mean": busiest_over_mean(output)})

    train(spec, model, capacity, watch)
    return {name.removeprefix("capacity/"): fmean(row[name] for row in seen) for name in seen[0]}


def busiest_over_mean(output: Output) -> float:
    """How uneven the router's own choices are, before anything overflows: 1 is even. Mean over layers."""
    skews = []
    for logits_TE, routing in zip(output.router_logits_TE, output.routing, strict=True):
        chosen_Tk = route(logits_TE, routing.choices_Tk.shape[1]).choices_Tk
        load_E = torch.bincount(chosen_Tk.flatten(), minlength=logits_TE.shape[1]).float()
        skews.append(float(load_E.max() / load_E.mean()))
    return fmean(skews)


def measure(seed: int, quick: bool) -> Measurement:
    spec = nano_spec(seed, QUICK_STEPS if quick else STEPS, SpecialistSettings())
    assert spec.model is not None
    dynamic = watched_training(spec, DynamicCapacity(State(torch.Generator().manual_seed(seed)), spec.model))
    static = StaticCapacity(spec.model, dynamic["overflow"])
    even = watched_training(spec, static)
    arms = {"static": even, "dynamic": dynamic}
    details = {f"{arm}/{name}": value for arm, values in arms.items() for name, value in values.items()}
    return Measurement(
        before=100 * even["utilisation"],
        after=100 * dynamic["utilisation"],
        details=details | {"static/factor": static.factor},
    )


CLAIM = Claim(
    number=3,
    title="compute utilisation with dynamic expert capacity",
    unit="% of expert slots used",
    before=62.0,
    after=89.0,
    measure=measure,
    limits="1.25 slots are paid for each choice, so the dynamic arm cannot use more than 80 % of them; what is counted "
    "are slots, not the time of a kernel",
)

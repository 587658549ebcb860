"""Training the nano network on the mixture of all domains, for experiments with its experts.

It is the fine-tuning stage's own batches, objective, optimizer and schedule, without run folder and snapshots, in
float32.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import torch
from torch import nn

from benchmarks.claims.dataset import nano_dataset
from trainer.data.rows import Batch, Rows, open_rows
from trainer.engine.loop import learning_rate
from trainer.engine.precision import MasterOptimizer
from trainer.engine.specialists import Specialists
from trainer.model.capacity import Room
from trainer.model.transformer import Output, Transformer
from trainer.spec import PhaseSpec, SftSpec, SpecialistSettings, load_recipe
from trainer.stages.sft import draw, objective

SOURCE = "text"  # its rows hold every domain, in the mixture's shares


class Capacity(Protocol):
    """Who hands out slots during a training; `DynamicCapacity` does."""

    def rooms(self, batch: Batch) -> list[Room]: ...

    def observe(self, output: Output, batch: Batch) -> None: ...


Watch = Callable[[int, Output, Batch, Sequence[Room] | None], None]


@cache
def mixed_rows(split: str) -> Rows:
    return open_rows(nano_dataset().artifact("tokens"), split)[SOURCE]


def nano_spec(seed: int, steps: int, specialists: SpecialistSettings | None) -> SftSpec:
    """The nano recipe's first fine-tuning, on text of all domains."""
    spec = next(job for job in load_recipe("nano").jobs if isinstance(job, SftSpec) and job.model is not None)
    phases = (PhaseSpec(phase="text", share=1.0, mix={SOURCE: 1.0}),)
    return spec.model_copy(update={"seed": seed, "steps": steps, "specialists": specialists, "phases": phases})


def new_network(spec: SftSpec) -> Transformer:
    """The network that a seed starts from."""
    assert spec.model is not None
    model = Transformer(spec.model)
    model.reset_parameters(torch.Generator().manual_seed(spec.seed))
    return model


def train(spec: SftSpec, model: Transformer, capacity: Capacity | None = None, watch: Watch | None = None) -> None:
    """Take the spec's steps; `watch` sees each one's output before the weights change."""
    specialists = Specialists(spec.specialists, model) if spec.specialists else None
    trained = nn.ModuleDict({"network": model} | ({"heads": specialists.heads} if specialists else {}))
    optimizer = MasterOptimizer(trained, spec.optimizer)
    memory = {"drawn": {SOURCE: 0.0}, "owed": {SOURCE: 0.0}}
    for step in range(spec.steps):
        batch = draw(spec, {SOURCE: mixed_rows("train")}, spec.phases[0], memory)
        rooms = capacity.rooms(batch) if capacity else None
        output = model(
            batch.tokens_BL, segments_BL=batch.segments_BL, capacity=rooms, keep_expert_outputs=specialists is not None
        )
        loss, _ = objective(spec, model, output, batch, specialists=specialists)
        if capacity:
            capacity.observe(output, batch)
        if watch:
            watch(step, output, batch, rooms)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(learning_rate(spec.optimizer, step / spec.steps))

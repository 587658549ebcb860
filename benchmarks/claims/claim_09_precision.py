"""Claim 9: mixed precision with dynamic loss scaling keeps the GPU busy for more than 92 % of the time.

That share needs a GPU. What any machine can measure of the claim is kept beside it: whether a tiny network trained in
16 or 8 bits on the same rows from the same start reaches float32's loss on held-out text, which share of its gradients
is exactly zero, how many steps are skipped, and how far the loss scale comes back from where eight overflows in a row
leave it, by the rule that counts zeros and by the literal one (loss == 0).
"""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor

from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.training import SOURCE, mixed_rows, nano_spec, new_network
from trainer.artifacts import Run, RunFolder
from trainer.data.rows import Batch
from trainer.engine.loop import Loop
from trainer.engine.loss_scaling import LARGEST, SMALLEST, LossScale, zero_gradient_share
from trainer.engine.precision import pick_device, place
from trainer.model.config import ModelConfig
from trainer.model.presets import preset
from trainer.model.transformer import Transformer
from trainer.spec import LossScaling, Precision, SftSpec
from trainer.stages.sft import draw, heldout_loss, objective

STEPS, QUICK_STEPS = 200, 60
WARM_STEPS, BUSY_STEPS = 5, 20
# A CPU multiplies fp16 some fifty times more slowly than float32: the network that all formats share must be small.
TINY = ModelConfig(
    vocab_size=512,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    max_position_embeddings=256,
)
TINY_ROWS, NANO_ROWS, GPU_ROWS = 4, 16, 64


@dataclass(frozen=True)
class Arm:
    precision: Precision
    rule: Literal["zero_share", "zero_loss"] = "zero_share"
    first_scale: float = SMALLEST


ARMS = {
    "fp32": Arm("fp32"),
    "bf16": Arm("bf16"),
    "fp8": Arm("fp8"),
    "fp16": Arm("fp16", first_scale=LARGEST),
    "fp16 after overflows": Arm("fp16"),
    "fp16 after overflows, literal rule": Arm("fp16", "zero_loss"),
}


class Training:
    """The fine-tuning stage's loop on the nano recipe's text, in a folder that goes with it."""

    def __init__(self, spec: SftSpec, folder: str) -> None:
        self.spec, self.device = spec, pick_device()
        self.model = place(new_network(spec), spec.precision, self.device)
        memory = {"drawn": {SOURCE: 0.0}, "owed": {SOURCE: 0.0}}
        self.loop = Loop(Run(RunFolder(Path(folder))), spec, self.model, memory)

    def draw(self) -> Batch:
        rows = {SOURCE: mixed_rows("train")}
        return draw(self.spec, rows, self.spec.phases[0], self.loop.memory).to(self.device)

    def loss(self, batch: Batch) -> Tensor:
        output = self.model(batch.tokens_BL, segments_BL=batch.segments_BL)
        return objective(self.spec, self.model, output, batch)[0]

    def heldout_loss(self) -> float:
        """Of the float32 masters, computed in float32: what was learned, not what computing it coarsely costs."""
        plain = Transformer(self.model.config)
        plain.load_state_dict(self.loop.weights())
        return heldout_loss(plain.to(self.device), {SOURCE: mixed_rows("heldout")})

    def zero_gradient_share(self) -> float:
        """Of one more batch, at the loss scale that the training has come to."""
        (self.loss(self.draw()) * self.loop.loss_scale.value).backward()  # type: ignore[no-untyped-call]
        return zero_gradient_share([p.grad for p in self.model.parameters() if p.grad is not None])


def spec_of(model: ModelConfig, rows: int, precision: Precision, seed: int, steps: int) -> SftSpec:
    changes = {"model": model, "batch_rows": rows, "precision": precision, "snapshot_every": steps + 1}
    return nano_spec(seed, steps, None).model_copy(update=changes)


def train(arm: Arm, seed: int, steps: int) -> dict[str, float]:
    """Train the tiny network; what came of it."""
    spec = spec_of(TINY, TINY_ROWS, arm.precision, seed, steps)
    spec = spec.model_copy(update={"loss_scaling": LossScaling(underflow=arm.rule)})
    skipped = 0
    with TemporaryDirectory() as folder:
        training = Training(spec, folder)
        loop = training.loop
        loop.loss_scale = LossScale(arm.first_scale)
        for _ in loop.steps():
            scale = loop.loss_scale.value
            loop.update(training.loss(training.draw()), {})
            skipped += loop.loss_scale.value < scale
    found = {"heldout_loss": training.heldout_loss(), "zero_gradient_share": training.zero_gradient_share()}
    return found | ({"skipped": skipped, "loss_scale": loop.loss_scale.value} if arm.precision == "fp16" else {})


def busy(seed: int) -> float:
    """% of the time that the GPU runs a kernel (NVML), training the preset `small`; on a machine without one, % of the
    time of torch's threads that they compute, training `nano`."""
    cuda = torch.cuda.is_available()
    name, rows = ("small", GPU_ROWS) if cuda else ("nano", NANO_ROWS)
    samples = []
    with TemporaryDirectory() as folder:
        training = Training(spec_of(preset(name), rows, "auto", seed, WARM_STEPS + BUSY_STEPS), folder)
        for step in training.loop.steps():
            if step == WARM_STEPS:
                wall, processor = time.perf_counter(), time.process_time()
            training.loop.update(training.loss(training.draw()), {})
            if cuda and step >= WARM_STEPS:
                samples.append(torch.cuda.utilization())
    if cuda:
        return fmean(samples)
    return 100 * (time.process_time() - processor) / (time.perf_counter() - wall) / torch.get_num_threads()


def measure(seed: int, quick: bool) -> Measurement:
    arms = {name: train(arm, seed, QUICK_STEPS if quick else STEPS) for name, arm in ARMS.items()}
    details = {f"{arm}: {name}": value for arm, values in arms.items() for name, value in values.items()}
    reference = arms.pop("fp32")["heldout_loss"]
    for name, found in arms.items():
        more = found["heldout_loss"] - reference
        details |= {f"{name}: loss over fp32's": more, f"{name}: loss over fp32's, %": 100 * more / reference}
    if torch.cuda.is_available():
        return Measurement(before=0.0, after=busy(seed), details=details)
    return Measurement(before=None, after=None, details=details | {"processor busy, %": busy(seed)})


CLAIM = Claim(
    number=9,
    title="GPU utilisation in mixed-precision training with dynamic loss scaling",
    unit="% of the time a kernel runs",
    before=0.0,  # the article gives a level, not a gain
    after=92.0,
    measure=measure,
    limits="the busy share of a GPU needs a GPU; losses and scales are those of a network of 0.2 million parameters",
)

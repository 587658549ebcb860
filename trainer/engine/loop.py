"""The training loop that every stage with an optimiser shares.

    loop = Loop(run, spec, model)
    for step in loop.steps():
        loss, metrics = ...
        loop.update(loss, metrics)

A batch must be a function of the step, or drawn from `loop.generator`: then a killed run, resumed from its newest
snapshot, is bit for bit the run that was never killed.
"""

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from trainer.artifacts import Run, new_folder, step_folder
from trainer.data.tokenizer import Tokenizer
from trainer.engine.checkpoint import load_snapshot, save_snapshot
from trainer.engine.loss_scaling import LARGEST, SMALLEST, LossScale, is_underflow, zero_gradient_share
from trainer.engine.meter import Meter
from trainer.engine.precision import MasterOptimizer
from trainer.model.config import ModelConfig
from trainer.model.mixtral import save_weights
from trainer.spec import Optimizer, TrainingBase

PROGRESS_EVERY_S = 1.0


def learning_rate(settings: Optimizer, progress: float) -> float:
    """Warmup-stable-decay: linear up over `warmup`, flat, linear to zero over the last `decay` (Hu et al. 2024)."""
    up = min(1.0, progress / settings.warmup) if settings.warmup else 1.0
    down = min(1.0, (1 - progress) / settings.decay) if settings.decay else 1.0
    return float(settings.lr * max(0.0, min(up, down)))


class Loop:
    """Steps, updates, snapshots and the schedule of one run.

    Args:
        memory: small JSON values of the stage's own that belong to the training state; saved in snapshots.
        auxiliary: modules that training alone needs: optimised and in snapshots, but in no checkpoint.
        budget_s: stop after so many seconds of training instead of after `spec.steps` (then not reproducible bit for
            bit); the schedule follows the clock.
    """

    def __init__(
        self,
        run: Run,
        spec: TrainingBase,
        model: nn.Module,
        memory: dict[str, Any] | None = None,
        budget_s: float | None = None,
        auxiliary: nn.Module | None = None,
    ) -> None:
        self.run, self.spec, self.model, self.budget_s = run, spec, model, budget_s
        trained = model if auxiliary is None else nn.ModuleDict({"network": model, "auxiliary": auxiliary})
        self._prefix = "" if auxiliary is None else "network."
        self.optimizer = MasterOptimizer(trained, spec.optimizer)
        self.loss_scale = LossScale(LARGEST if spec.precision == "fp16" else SMALLEST)
        self.meter = Meter(run, model)
        self.generator = torch.Generator().manual_seed(spec.seed)
        self.memory: dict[str, Any] = memory or {}
        self.step = 0
        self.lr_scale = 1.0
        self.seconds = 0.0
        self._reported = self._began = 0.0

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.step / self.spec.steps if self.budget_s is None else self.seconds / self.budget_s

    def steps(self) -> Iterator[int]:
        """Step numbers from where the newest snapshot stands; ends when done or asked to stop."""
        if self._resume():
            self.run.log(f"resumed from the snapshot of step {self.step}")
        self.run.rewind_metrics(self.step)
        while self.progress < 1:
            if self.run.stop_requested:
                self.run.log(f"asked to stop: saving step {self.step}")
                self.snapshot()
                return
            self._began = time.perf_counter()
            yield self.step
            self.seconds += time.perf_counter() - self._began
            if self.step % self.spec.snapshot_every == 0:
                self.snapshot()

    def update(self, loss: Tensor, metrics: dict[str, float], tokens: int = 0, flops: float = 0.0) -> None:
        """Backward, clip, schedule, optimiser, metrics; then the step counts as done.

        Args:
            tokens: how many the step processed, with `flops` operations forward and backward; with 0 the step's
                speed and memory are not reported.

        Where fp16's gradients overflow, weights and moments stay as they are and the loss scale falls. The step still
        counts: its batch is spent, and the schedule and the curriculum follow the counter.

        Raises:
            ValueError: the loss is not finite, or the gradient is not and no smaller loss scale can help.
        """
        value = loss.item()
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} at step {self.step}: lower optimizer.lr or set precision to fp32; "
                "the last snapshot is kept"
            )
        scale = self.loss_scale.value
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        zero_share = self._zero_share() if self.spec.precision == "fp16" else 0.0
        lr = self.lr_scale * learning_rate(self.spec.optimizer, self.progress)
        norm = self.optimizer.step(lr, scale)
        values = {"loss": value, "lr": lr, **self._rescale(value, norm, zero_share), **metrics}
        self.step += 1
        if tokens:
            values |= self.meter.report(tokens, flops, time.perf_counter() - self._began)
        self.run.metrics(self.step, values)
        self._report(f"loss {value:.3f}")

    def skip(self, metrics: dict[str, float]) -> None:
        """Count a step whose batch gave no signal, without touching the weights."""
        self.step += 1
        self.run.metrics(self.step, {"skipped": 1.0, **metrics})
        self._report("no signal")

    def snapshot(self) -> None:
        """Save everything needed to go on from here."""
        tensors = {**self.optimizer.state(), "generator": self.generator.get_state()}
        values = {
            "step": self.step,
            "seconds": self.seconds,
            "lr_scale": self.lr_scale,
            "loss_scale": self.loss_scale.value,
            "memory": self.memory,
        }
        save_snapshot(self.run.folder.volatile, self.step, tensors, values)

    def restore(self) -> None:
        """Go back to the newest snapshot, weights, moments, random numbers and step alike."""
        found = self._resume()
        assert found, "restore() before the first snapshot()"
        self.run.rewind_metrics(self.step)

    def save_checkpoint(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        """Write the float32 weights as a persistent checkpoint of this step."""
        with new_folder(step_folder(self.run.folder.checkpoints, self.step)) as folder:
            save_weights(folder, config, self.weights(), tokenizer)

    def weights(self) -> dict[str, Tensor]:
        """Name -> float32 master weight of the network alone."""
        named = self.optimizer.weights()
        return {name.removeprefix(self._prefix): named[name] for name in named if name.startswith(self._prefix)}

    def _zero_share(self) -> float:
        return zero_gradient_share([p.grad for p in self.optimizer.parameters if p.grad is not None])

    def _rescale(self, loss: float, norm: float, zero_share: float) -> dict[str, float]:
        """Set the next step's loss scale; returns what is to be reported of this step's gradient.

        Raises:
            ValueError: the gradient is not finite and no smaller loss scale can help.
        """
        overflow, scale = not math.isfinite(norm), self.loss_scale.value
        if overflow and scale == SMALLEST:
            raise ValueError("the gradient is not finite: lower optimizer.lr, or set precision to fp32")
        if self.spec.precision != "fp16":
            return {"grad_norm": norm}
        underflow = is_underflow(self.spec.loss_scaling, loss, zero_share)
        self.loss_scale = self.loss_scale.after(overflow=overflow, underflow=underflow)
        reported = {"loss_scale": scale, "skipped": float(overflow), "zero_gradient_share": zero_share}
        if overflow:
            fallen = self.loss_scale.value
            self.run.log(f"step {self.step}: gradients overflowed at loss scale {scale:g}; skipped, now {fallen:g}")
            return reported
        return {"grad_norm": norm, **reported}

    def _resume(self) -> bool:
        found = load_snapshot(self.run.folder.volatile)
        if found is None:
            return False
        tensors, values = found
        self.generator.set_state(tensors.pop("generator"))
        self.optimizer.load_state(tensors)
        self.step, self.seconds, self.lr_scale = values["step"], values["seconds"], values["lr_scale"]
        self.loss_scale = LossScale(values["loss_scale"])
        self.memory = values["memory"]
        return True

    def _report(self, message: str) -> None:
        """Tell the status file now and then; a write a step would cost more than it tells."""
        now = time.monotonic()
        total = (
            self.spec.steps if self.budget_s is None else max(self.step, round(self.step / max(self.progress, 1e-3)))
        )
        if now - self._reported >= PROGRESS_EVERY_S or self.step >= total:
            self._reported = now
            self.run.progress(self.step, total, message)

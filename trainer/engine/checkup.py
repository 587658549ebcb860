"""The expert doctor's visits during training: what it finds is logged and kept, and a dead expert can be revived."""

from dataclasses import asdict
from typing import Any, Literal

import torch

from trainer.engine.loop import Loop
from trainer.model.doctor import PATIENCE, DomainLoad, Finding, Load, busiest, examine

NOISE = 0.1  # standard deviations of the copied weights
EXPERT_TENSORS = ("moe.router.weight", "moe.gate_up_EGD", "moe.down_EDF")  # one row an expert in each


def checkup(loop: Loop, mode: Literal["report", "apply"], load: Load, by_domain: DomainLoad | None = None) -> None:
    """Examine the experts after a step; the doctor's memory is part of the training state.

    Args:
        mode: "apply" also makes every dead expert a noisy copy of the busiest one of its layer.
        by_domain: of the same step, where experts are meant to have roles.
    """
    memory = _memory(loop)
    memory["history"] = [*memory["history"], load][-PATIENCE:]
    found = examine(memory["history"], by_domain)
    _log_changes(loop, [Finding(**finding) for finding in memory["findings"]], found)
    memory["findings"] = [asdict(finding) for finding in found]
    if memory["findings"] != loop.run.folder.result().get("findings", []):
        loop.run.folder.write_result({"findings": memory["findings"]})
    for finding in found:
        if mode == "apply" and finding.kind == "dead":
            source = busiest(memory["history"][-1][finding.layer])
            revive(loop, finding.layer, finding.expert, source)
            loop.run.log(f"doctor: expert {finding.expert} of layer {finding.layer} goes on as a copy of {source}")


def findings(loop: Loop) -> list[dict[str, Any]]:
    """What the last checkup found, for the result."""
    found: list[dict[str, Any]] = _memory(loop)["findings"]
    return found


@torch.no_grad()
def revive(loop: Loop, layer: int, expert: int, source: int) -> None:
    """Copy `source` over `expert`: weights, router row and moments; then noise on the weights parts their ways.

    The copy gets tokens at once, since its router row is nearly that of an expert that gets them.
    """
    names = {f"layers.{layer}.{tensor}" for tensor in EXPERT_TENSORS}
    for key, tensor in loop.optimizer.state().items():
        kind, _, name = key.partition("/")
        if name in names and tensor.dim() > 1:
            tensor[expert] = tensor[source]
            if kind == "weight":
                noise = torch.randn(tensor[source].shape, generator=loop.generator).to(tensor.device)
                tensor[expert] += NOISE * tensor[source].std() * noise
    loop.optimizer.publish()


def _memory(loop: Loop) -> dict[str, Any]:
    """Loads of the last checks, and the findings that hold."""
    memory: dict[str, Any] = loop.memory.setdefault("doctor", {"history": [], "findings": []})
    return memory


def _log_changes(loop: Loop, before: list[Finding], now: list[Finding]) -> None:
    known, found = ({finding.key for finding in findings} for findings in (before, now))
    for finding in now:
        if finding.key not in known:
            loop.run.log(f"doctor: {finding.sentence}. Remedy: {finding.remedy}")
    for finding in before:
        if finding.key not in found:
            loop.run.log(f"doctor: expert {finding.expert} of layer {finding.layer} is no longer {finding.kind}")

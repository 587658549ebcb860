"""Dynamic capacity over a run: the load so far, one draw a step, and what came of it. See trainer/model/capacity.py.

Shapes: N layers, E experts, T tokens, k experts a token.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from trainer.data.rows import Batch
from trainer.model.capacity import Room, capacities, slots_of
from trainer.model.config import ModelConfig
from trainer.model.moe import route
from trainer.model.transformer import Output

MEAN_DECAY = 0.99  # of the running mean of router probabilities, a step


class TrainingState(Protocol):
    """What a run saves and restores; `Loop` is one."""

    memory: dict[str, Any]
    generator: torch.Generator


class DynamicCapacity:
    """Hands out each step's slots. All it remembers lies in the training's state, where its draws come from, too: a
    resumed run goes on with the same."""

    def __init__(self, state: TrainingState, config: ModelConfig) -> None:
        self.state, self.top_k = state, config.num_experts_per_tok
        self.shape = (config.num_hidden_layers, config.num_local_experts)
        state.memory["router_load"] = {"weight": 0.0, "sums": torch.zeros(self.shape).tolist()}

    def rooms(self, batch: Batch) -> list[Room]:
        """The slots of every layer for this batch. Draws anew at each call: call it once a step."""
        real_T = (batch.segments_BL > 0).flatten()
        uniform_NE = torch.rand(self.shape, generator=self.state.generator)
        choices = self.top_k * int(real_T.sum())
        slots_NE = slots_of(capacities(self.history(), uniform_NE), choices).to(real_T.device)
        return [Room(slots_E, len(batch.segments_BL), real_T) for slots_E in slots_NE]

    @torch.no_grad()
    def observe(self, output: Output, batch: Batch) -> None:
        """Take this step's router probabilities into the running means, for the next one."""
        real_T = (batch.segments_BL > 0).flatten()
        means_NE = torch.stack([x_TE[real_T].float().softmax(dim=-1).mean(dim=0) for x_TE in output.router_logits_TE])
        load = self.state.memory["router_load"]
        sums_NE = torch.tensor(load["sums"], dtype=torch.float64).lerp(means_NE.double().cpu(), 1 - MEAN_DECAY)
        self.state.memory["router_load"] = {
            "weight": load["weight"] * MEAN_DECAY + 1 - MEAN_DECAY,
            "sums": sums_NE.tolist(),
        }

    def history(self) -> Tensor:
        """p_i [N, E]: the running mean, corrected for its short past; even before the first step."""
        load = self.state.memory["router_load"]
        if not load["weight"]:
            return torch.full(self.shape, 1 / self.shape[1])
        return torch.tensor(load["sums"], dtype=torch.float64).div(load["weight"])


@torch.no_grad()
def capacity_metrics(output: Output, rooms: Sequence[Room]) -> dict[str, float]:
    """What the slots did, over all layers: the share of choices that found their expert full, how many of those stayed
    with the token's first choice, and the share of the slots that were used."""
    full = stuck = choices = used = slots = 0
    for logits_TE, routing, room in zip(output.router_logits_TE, output.routing, rooms, strict=True):
        given = room.assign(logits_TE, route(logits_TE, routing.choices_Tk.shape[1]).choices_Tk)
        real_Tk = given.choices_Tk if room.real_T is None else given.choices_Tk[room.real_T]
        load_E = torch.bincount(real_Tk.flatten(), minlength=len(room.slots_E))
        full, stuck = full + int(given.full_Tk.sum()), stuck + int(given.stuck_Tk.sum())
        choices, slots = choices + real_Tk.numel(), slots + int(room.slots_E.sum())
        used += int(torch.minimum(load_E, room.slots_E).sum())
    return {
        "capacity/overflow": full / max(choices, 1),
        "capacity/kept_by_first_choice": float(stuck),
        "capacity/utilisation": used / max(slots, 1),
    }

"""Claim 3: dynamic expert capacity raises compute utilisation from 62 to 89 %.

Utilisation is Σ min(load_i, slots_i) / Σ slots_i: the share of paid-for slots that do work. Dynamic slots follow
C_i = α·p_i + β·u_i·2/N with α = 0.7, β = 0.3; p_i is the running mean of P(E_i|x) over *earlier* steps and u_i is
drawn from U(0, 1) once a step; slots_i = 1.25·k·T·C_i/ΣC. The static arm gives every expert the same number of slots,
as many as make it overflow as often as the dynamic arm does. Both are counted on the same router while it learns.

E experts, T tokens, k choices a token.
"""

import torch
from torch import Tensor

from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.dataset import nano_dataset
from trainer.data.rows import open_rows
from trainer.model.moe import route
from trainer.model.transformer import Output, Transformer
from trainer.spec import SftSpec, load_recipe
from trainer.stages.sft import draw, objective, phase_at

ALPHA, BETA, FACTOR = 0.7, 0.3, 1.25
STEPS, QUICK_STEPS = 400, 120
WARM_SHARE = 0.5  # the first half of the steps only warms the running means up
MEAN_DECAY = 0.99
CLIP = 1.0
BISECTIONS = 40


class RunningLoad:
    """p_i of every layer: the running mean of P(E_i|x), corrected for its short history."""

    def __init__(self, layers: int, experts: int) -> None:
        self._sum_NE = torch.zeros(layers, experts)
        self._weight = 0.0

    def update(self, probability_NE: Tensor) -> None:
        self._sum_NE = MEAN_DECAY * self._sum_NE + (1 - MEAN_DECAY) * probability_NE
        self._weight = MEAN_DECAY * self._weight + (1 - MEAN_DECAY)

    @property
    def mean_NE(self) -> Tensor:
        return self._sum_NE / self._weight


def dynamic_slots(history_E: Tensor, uniform_E: Tensor, choices: int) -> Tensor:
    """slots_i = 1.25·(k·T)·C_i/ΣC of one layer and step; `choices` is k·T."""
    capacity_E = ALPHA * history_E + BETA * uniform_E * 2 / len(history_E)
    return FACTOR * choices * capacity_E / capacity_E.sum()


def utilisation(loads_SE: Tensor, slots_SE: Tensor) -> float:
    return float(torch.minimum(loads_SE, slots_SE).sum() / slots_SE.sum())


def overflow(loads_SE: Tensor, slots_SE: Tensor) -> float:
    """Share of the choices that find their expert full."""
    return float((loads_SE - slots_SE).clamp(min=0).sum() / loads_SE.sum())


def static_slots(loads_SE: Tensor, wanted_overflow: float) -> Tensor:
    """The same slots for all experts of a step, so many that the overflow over all steps is the wanted one."""
    mean_S1 = loads_SE.mean(dim=1, keepdim=True)
    low, high = 0.0, float(loads_SE.shape[1])  # with a factor of E every expert could take everything
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if overflow(loads_SE, (middle * mean_S1).expand_as(loads_SE)) > wanted_overflow:
            low = middle
        else:
            high = middle
    return (high * mean_S1).expand_as(loads_SE)


@torch.no_grad()
def router_view(output: Output, segments_BL: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Loads [layers, E] (choices an expert received) and mean P(E|x) [layers, E], over tokens that are no padding."""
    real_T = (segments_BL > 0).flatten()
    loads, probabilities = [], []
    for logits_TE in output.router_logits_TE:
        real_TE = logits_TE[real_T].float()
        loads.append(torch.bincount(route(real_TE, top_k).choices_Tk.flatten(), minlength=real_TE.shape[1]).float())
        probabilities.append(real_TE.softmax(dim=-1).mean(dim=0))
    return torch.stack(loads), torch.stack(probabilities)


def train_and_watch(seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """Train the nano network; loads and dynamic slots, both [steps·layers, E], of the later steps."""
    spec = next(job for job in load_recipe("nano").jobs if isinstance(job, SftSpec))
    config, sources = spec.model, open_rows(nano_dataset().artifact("tokens"), "train")
    assert config is not None, "the first fine-tuning of the recipe makes a new network"
    spec = spec.model_copy(update={"seed": seed, "steps": steps})
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config)
    model.reset_parameters(generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec.optimizer.lr, betas=spec.optimizer.betas)
    memory: dict[str, dict[str, float]] = {"drawn": dict.fromkeys(sources, 0.0), "owed": dict.fromkeys(sources, 0.0)}
    history = RunningLoad(config.num_hidden_layers, config.num_local_experts)
    watched: list[tuple[Tensor, Tensor]] = []
    for step in range(steps):
        batch = draw(spec, sources, phase_at(spec.phases, step / steps), memory)
        output = model(batch.tokens_BL, segments_BL=batch.segments_BL)
        loss, _ = objective(spec, model, output, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        loads_NE, probability_NE = router_view(output, batch.segments_BL, config.num_experts_per_tok)
        if step >= WARM_SHARE * steps:
            uniform_E = torch.rand(config.num_local_experts, generator=generator)
            choices = int(loads_NE[0].sum())
            slots_NE = torch.stack([dynamic_slots(mean_E, uniform_E, choices) for mean_E in history.mean_NE])
            watched.append((loads_NE, slots_NE))
        history.update(probability_NE)
    loads, slots = zip(*watched, strict=True)
    return torch.cat(loads), torch.cat(slots)


def measure(seed: int, quick: bool) -> Measurement:
    loads_SE, dynamic_SE = train_and_watch(seed, QUICK_STEPS if quick else STEPS)
    lost = overflow(loads_SE, dynamic_SE)
    static_SE = static_slots(loads_SE, lost)
    return Measurement(
        before=100 * utilisation(loads_SE, static_SE),
        after=100 * utilisation(loads_SE, dynamic_SE),
        details={
            "overflow": lost,
            "static_factor": float(static_SE.sum() / loads_SE.sum()),
            "busiest_over_mean": float((loads_SE.max(dim=1).values / loads_SE.mean(dim=1)).mean()),
        },
    )


CLAIM = Claim(
    number=3,
    title="compute utilisation with dynamic expert capacity",
    unit="% of expert slots used",
    before=62.0,
    after=89.0,
    measure=measure,
    limits="counted on the router's first choices, before a token that finds its expert full is sent to another; "
    "experts without assigned domains",
)

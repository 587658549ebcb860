"""Direct preference optimisation, held within a KL bound of its reference, which is the checkpoint it starts from.

The bound is measured on fresh answers before any snapshot or checkpoint is written. On a breach the run goes back to
the last snapshot inside it with beta doubled; nothing beyond it is released.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.alignment.answers import Sequences, answer_logprobs, encode_prompts, pack, row_length
from trainer.alignment.kl_bound import INSIDE, fresh_generator, measure_kl, retreat
from trainer.artifacts import Run, read_jsonl
from trainer.data.tokenizer import Tokenizer
from trainer.engine.loop import Loop
from trainer.engine.precision import pick_device, place
from trainer.model.mixtral import load_model
from trainer.model.transformer import Transformer
from trainer.objectives import dpo_loss
from trainer.spec import DpoSpec, Pair
from trainer.stages.reward import batch_numbers, fitting, labelled_pairs, sides

KL_PROMPTS = 64
MAX_RETREATS = 6
DISPLACED = -0.02  # nat per token: below it the chosen answers are losing probability
SMOOTHING = 0.9


@dataclass(frozen=True)
class Preferences:
    """Pairs as token ids, and the reference's log-probability of every answer."""

    chosen: Sequences
    rejected: Sequences
    reference_chosen_P: Tensor
    reference_rejected_P: Tensor
    length: int


def run(spec: DpoSpec, run: Run) -> None:
    checkpoint = run.input("checkpoint").checkpoint()
    tokenizer = Tokenizer.load(checkpoint)
    device = pick_device()
    policy, reference = (place(load_model(checkpoint), spec.precision, device) for _ in range(2))
    pairs = read_pairs(run, tokenizer, policy.config.max_position_embeddings)
    preferences = with_reference(reference, tokenizer, pairs, spec.batch_pairs)
    prompts = encode_prompts(tokenizer, [pair.prompt for pair in pairs])
    memory = new_memory(spec)
    loop = Loop(run, spec, policy.train(), memory=memory)
    for step in loop.steps():
        if step == 0:
            loop.snapshot()
        if loop.memory["retreats"] > MAX_RETREATS:
            break
        numbers = batch_numbers(len(pairs), spec.batch_pairs, step, spec.seed)
        loss, metrics = objective(spec, policy, preferences, numbers, loop.memory["beta"], tokenizer)
        watch_displacement(loop, metrics)
        loop.memory[INSIDE] = False
        loop.update(loss, metrics)
        if not due(spec, loop):
            continue
        if inside_bound(spec, loop, policy, reference, tokenizer, prompts):
            loop.snapshot()
        else:
            go_back(loop)
    if not run.stop_requested:
        loop.save_checkpoint(policy.config, tokenizer)
        run.folder.write_result(report(loop, len(pairs)))


def new_memory(spec: DpoSpec) -> dict[str, Any]:
    """What belongs to the training state besides weights: beta as it stands, retreats so far, the last measured KL."""
    drift = {"kl": [0.0, 0.0, 0.0], INSIDE: True, "displacement": 0.0, "alarm": False}
    return {"beta": spec.beta, "retreats": 0, "retreated_to": -1, **drift}


def read_pairs(run: Run, tokenizer: Tokenizer, context: int) -> list[Pair]:
    """The reward job's candidate pairs and the labelled ones that fit the context; of a tie nothing can be learnt."""
    pairs = list(read_jsonl(run.input("pairs").artifact("pairs") / "pairs.jsonl", Pair))
    pairs = [pair for pair in pairs + labelled_pairs(run) if pair.preference > 0.5]
    return fitting(pairs, tokenizer, context, run)


@torch.no_grad()
def with_reference(reference: Transformer, tokenizer: Tokenizer, pairs: list[Pair], batch: int) -> Preferences:
    """Precompute what the reference thinks of both answers of every pair."""
    chosen, rejected = sides(tokenizer, pairs)
    length = row_length(max(chosen.longest, rejected.longest))
    logps: list[list[Tensor]] = [[], []]
    for start in range(0, len(pairs), batch):
        numbers = range(start, min(start + batch, len(pairs)))
        both = answer_sums(reference, chosen.take(numbers), rejected.take(numbers), length, tokenizer)
        for side, logps_P in zip(logps, both, strict=True):
            side.append(logps_P)
    return Preferences(chosen, rejected, torch.cat(logps[0]), torch.cat(logps[1]), length)


def answer_sums(
    model: Transformer, chosen: Sequences, rejected: Sequences, length: int, tokenizer: Tokenizer
) -> tuple[Tensor, Tensor]:
    """Summed log-probability of each answer, [P] and [P], in one forward pass."""
    both = Sequences(chosen.prompts + rejected.prompts, chosen.answers + rejected.answers)
    rows = pack(both, length, tokenizer.pad_id, model.embed_tokens.weight.device)
    sums_A = rows.sums(answer_logprobs(model, rows))
    return sums_A[: len(chosen.prompts)], sums_A[len(chosen.prompts) :]


def objective(
    spec: DpoSpec, policy: Transformer, data: Preferences, numbers: list[int], beta: float, tokenizer: Tokenizer
) -> tuple[Tensor, dict[str, float]]:
    """DPO's loss on some pairs, and what to plot; log-probabilities are shown per token."""
    chosen, rejected = data.chosen.take(numbers), data.rejected.take(numbers)
    chosen_P, rejected_P = answer_sums(policy, chosen, rejected, data.length, tokenizer)
    reference_chosen_P, reference_rejected_P = data.reference_chosen_P[numbers], data.reference_rejected_P[numbers]
    chosen_lengths_P, rejected_lengths_P = (
        torch.tensor([len(answer) for answer in side.answers], dtype=torch.float32, device=chosen_P.device)
        for side in (chosen, rejected)
    )
    loss = dpo_loss(
        chosen_P,
        rejected_P,
        reference_chosen_P,
        reference_rejected_P,
        beta=beta,
        chosen_lengths_P=chosen_lengths_P,
        likelihood_weight=spec.likelihood_weight,
        kind=spec.loss,
        label_smoothing=spec.label_smoothing,
    )
    margin_P = (chosen_P - reference_chosen_P) - (rejected_P - reference_rejected_P)
    return loss, {
        "chosen_logps": (chosen_P / chosen_lengths_P).mean().item(),
        "rejected_logps": (rejected_P / rejected_lengths_P).mean().item(),
        "accuracy": (margin_P > 0).float().mean().item(),
        "margin": beta * margin_P.mean().item(),
        "displacement": ((chosen_P - reference_chosen_P) / chosen_lengths_P).mean().item(),
        "beta": beta,
    }


def watch_displacement(loop: Loop, metrics: dict[str, float]) -> None:
    """Alarm when chosen answers lose probability against the reference, though the margin may still grow.

    The known failure is likelihood displacement: Razin et al. 2024, "Unintentional Unalignment".
    """
    memory = loop.memory
    memory["displacement"] = SMOOTHING * memory["displacement"] + (1 - SMOOTHING) * metrics["displacement"]
    displaced = memory["displacement"] < DISPLACED
    if displaced and not memory["alarm"]:
        loop.run.log(
            f"alarm at step {loop.step}: chosen answers lost {-memory['displacement']:.3f} nat a token against the "
            "reference; raise likelihood_weight or beta"
        )
    memory["alarm"] = displaced
    metrics["displacement_alarm"] = float(displaced)


def due(spec: DpoSpec, loop: Loop) -> bool:
    """Measure every `check_every` steps, and before anything is written that others may build on."""
    written = loop.step % spec.snapshot_every == 0 or loop.step == spec.steps or loop.run.stop_requested
    return loop.step % spec.check_every == 0 or written


def inside_bound(
    spec: DpoSpec,
    loop: Loop,
    policy: Transformer,
    reference: Transformer,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
) -> bool:
    """Whether the upper 95 % bound of the KL on fresh answers is at most `max_kl`; remembered for the snapshot."""
    kl = measure_kl(
        policy,
        reference,
        tokenizer,
        [prompts[i] for i in batch_numbers(len(prompts), min(KL_PROMPTS, len(prompts)), loop.step, spec.seed)],
        max_new_tokens=spec.max_new_tokens,
        generator=fresh_generator(spec.seed, loop.step, 1, policy.embed_tokens.weight.device),
    )
    loop.run.metrics(loop.step, {"kl": kl.mean, "kl_upper": kl.high})
    loop.memory[INSIDE] = kl.high <= spec.max_kl
    loop.memory["kl"] = list(kl)
    if not loop.memory[INSIDE]:
        loop.run.log(f"step {loop.step}: KL to the reference is up to {kl.high:.3f} nat a token, allowed {spec.max_kl}")
    return bool(loop.memory[INSIDE])


def go_back(loop: Loop) -> None:
    """Back inside the bound with beta doubled; after MAX_RETREATS of them that place is final.

    A second breach from the same place says that the steps are too long for any beta: the rate is halved too.
    """
    earlier = loop.memory["retreated_to"]
    retreat(loop)
    loop.memory["retreats"] += 1
    loop.memory["beta"] *= 2
    if loop.step == earlier:
        loop.lr_scale /= 2
    loop.memory["retreated_to"] = loop.step
    loop.snapshot()
    final = loop.memory["retreats"] > MAX_RETREATS
    now = f"beta {loop.memory['beta']}, {loop.lr_scale} of the learning rate"
    loop.run.log(f"back to step {loop.step}, " + ("which is final" if final else now))


def report(loop: Loop, pairs: int) -> dict[str, object]:
    mean, low, high = loop.memory["kl"]
    return {
        "pairs": pairs,
        "kl": mean,
        "kl_interval": [low, high],
        "beta": loop.memory["beta"],
        "retreats": loop.memory["retreats"],
        "lr_scale": loop.lr_scale,
        "displacement": loop.memory["displacement"],
        "displacement_alarm": loop.memory["alarm"],
        "steps": loop.step,
        "train_seconds": loop.seconds,
    }

"""Group relative policy optimisation: answers are sampled from the live weights, scored, and compared in their group.

Problems come with answers only. A step: rollout, score, drop groups that say nothing about correctness, update.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from pydantic import BaseModel
from torch import Tensor

from trainer.alignment.answers import (
    AnswerRows,
    Sequences,
    answer_logprobs,
    encode_prompts,
    in_answer_order,
    pack,
    question,
    row_length,
)
from trainer.alignment.kl_bound import INSIDE, fresh_generator, measure_kl, retreat
from trainer.artifacts import Run, read_jsonl, write_atomic
from trainer.data.tokenizer import Tokenizer
from trainer.engine.loop import Loop
from trainer.engine.precision import pick_device, place
from trainer.model.generate import Completion, generate
from trainer.model.mixtral import load_model
from trainer.model.transformer import Transformer
from trainer.objectives import clipped_surrogate, grpo_advantages, k3_kl, masked_mean
from trainer.rewards.composite import Parts, composite_reward, score_group
from trainer.rewards.correctness import shows_work, well_formed
from trainer.spec import Problem, RlhfSpec
from trainer.stages.reward import batch_numbers

KL_PROMPTS = 64
MAX_RETREATS = 6
SAMPLE_EVERY, SAMPLE_GROUPS = 10, 2
SLOW, FAST, HACKED = 0.98, 0.9, 0.02  # smoothing of two averages of a reward, and the gap between them that counts
MISMATCH_ALARM = 0.1  # mean |log p decoder - log p training| a token, nat: beyond it the two are not one policy


@dataclass(frozen=True)
class Rollout:
    """G groups of K answers, flat: answer number g * K + k belongs to group g."""

    problems: list[Problem]
    prompts: list[list[int]]
    completions: list[Completion]
    texts: list[str]
    parts: list[Parts]
    rewards_GK: Tensor
    advantages_GK: Tensor
    kept_G: Tensor  # bool: R_corr varies within the group


class RolloutRow(BaseModel):
    """One line of artifacts/rollouts.jsonl."""

    step: int
    group: int
    problem: str
    prompt: str
    answer: str
    completion: str
    finished: bool
    correctness: float
    coherence: float
    diversity: float
    safety: float
    reward: float
    advantage: float
    kept: bool


def run(spec: RlhfSpec, run: Run) -> None:
    checkpoint = run.input("checkpoint").checkpoint()
    tokenizer = Tokenizer.load(checkpoint)
    device = pick_device()
    policy, reference = (place(load_model(checkpoint), spec.precision, device) for _ in range(2))
    problems = read_problems(run)
    memory = {"retreats": 0, "kl": [0.0, 0.0, 0.0], INSIDE: True, "averages": {}, "alarm": False}
    loop = Loop(run, spec, policy.train(), memory=memory)
    for step in loop.steps():
        if step == 0:
            loop.snapshot()
        if loop.memory["retreats"] > MAX_RETREATS:
            break
        batch = [problems[i] for i in batch_numbers(len(problems), spec.prompts_per_step, step, spec.seed)]
        began = time.perf_counter()
        rollout = collect(spec, policy, tokenizer, batch, fresh_generator(spec.seed, step, 0, device))
        metrics = rollout_metrics(spec, rollout) | {"seconds/rollout": time.perf_counter() - began}
        metrics["reward_hacking_alarm"] = watch_rewards(loop, metrics)
        if step % SAMPLE_EVERY == 0:
            save_sample(run, step, rollout)
        learn(spec, loop, policy, reference, tokenizer, rollout, metrics)
        if due(spec, loop) and not inside_bound(spec, loop, policy, reference, tokenizer, problems):
            go_back(loop)
    if not run.stop_requested:
        loop.save_checkpoint(policy.config, tokenizer)
        run.folder.write_result(report(loop))


def read_problems(run: Run) -> list[Problem]:
    problems = list(read_jsonl(run.input("problems").artifact("problems") / "rl.jsonl", Problem))
    if not problems:
        raise ValueError("input 'problems' has none for reinforcement learning; raise 'rl' of the synthesize job")
    return problems


# -- rollout ---------------------------------------------------------------------------------------------------------


def collect(
    spec: RlhfSpec, policy: Transformer, tokenizer: Tokenizer, problems: list[Problem], generator: torch.Generator
) -> Rollout:
    """Sample a group of answers to every problem and score them."""
    K = spec.group_size
    encoded = encode_prompts(tokenizer, [question(problem.prompt) for problem in problems])
    prompts = [prompt for prompt in encoded for _ in range(K)]
    completions = generate(
        policy,
        prompts,
        max_new_tokens=spec.max_new_tokens,
        end_id=tokenizer.end_id,
        temperature=spec.temperature,
        generator=generator,
    )
    texts = [tokenizer.decode(completion.tokens) for completion in completions]
    parts: list[Parts] = []
    for number, problem in enumerate(problems):
        group = slice(number * K, (number + 1) * K)
        tokens = [completion.tokens for completion in completions[group]]
        finished = [completion.finished for completion in completions[group]]
        parts += score_group(texts[group], tokens, finished, problem.answer)
    rewards_GK = torch.tensor([composite_reward(part, spec.weights) for part in parts]).view(-1, K)
    correct_GK = torch.tensor([part.correctness for part in parts]).view(-1, K)
    # Every answer can collect the other three parts: a group whose answers are all right or all wrong would teach
    # style only.
    kept_G = correct_GK.std(dim=1, correction=0) > spec.min_group_std
    return Rollout(problems, prompts, completions, texts, parts, rewards_GK, grpo_advantages(rewards_GK), kept_G)


def rollout_metrics(spec: RlhfSpec, rollout: Rollout) -> dict[str, float]:
    """One curve for each part of the reward, the total, and what the answers look like."""
    n = len(rollout.texts)
    means = {f"reward/{name}": sum(values) / n for name, values in _columns(rollout.parts).items()}
    return {
        **means,
        "reward/total": rollout.rewards_GK.mean().item(),
        "exact_match": means["reward/correctness"],
        "shows_work": sum(map(shows_work, rollout.texts)) / n,
        "well_formed": sum(map(well_formed, rollout.texts)) / n,
        "finished": sum(completion.finished for completion in rollout.completions) / n,
        "answer_tokens": sum(len(completion.tokens) for completion in rollout.completions) / n,
        "kept_groups": rollout.kept_G.float().mean().item(),
    }


def _columns(parts: Sequence[Parts]) -> dict[str, tuple[float, ...]]:
    return dict(zip(Parts._fields, zip(*parts, strict=True), strict=True))


def watch_rewards(loop: Loop, metrics: dict[str, float]) -> float:
    """1 while the composite reward rises and correctness falls: the policy collects the other parts instead.

    Every step draws new problems, so correctness of the rollouts is quality on problems not trained on. Rising and
    falling compare a fast with a slow moving average.
    """
    averages, rise = loop.memory["averages"], {}
    for name in ("reward/total", "reward/correctness"):
        fast, slow = averages.get(name, [metrics[name]] * 2)
        averages[name] = [a * old + (1 - a) * metrics[name] for a, old in ((FAST, fast), (SLOW, slow))]
        rise[name] = averages[name][0] - averages[name][1]
    hacked = rise["reward/total"] > HACKED and rise["reward/correctness"] < -HACKED
    if hacked and not loop.memory["alarm"]:
        loop.run.log(f"alarm at step {loop.step}: the reward rises while fewer answers are right; raise its weight")
    loop.memory["alarm"] = hacked
    return float(hacked)


def save_sample(run: Run, step: int, rollout: Rollout) -> None:
    """Add some groups to artifacts/rollouts.jsonl, forgetting what a resumed run is about to write again."""
    path = run.folder.artifacts / "rollouts.jsonl"
    rows = [row for row in read_jsonl(path, RolloutRow) if row.step < step] if path.is_file() else []
    K = rollout.rewards_GK.shape[1]
    for number in range(min(SAMPLE_GROUPS * K, len(rollout.texts))):
        group, place = divmod(number, K)
        problem = rollout.problems[group]
        rows.append(
            RolloutRow(
                step=step,
                group=group,
                problem=problem.id,
                prompt=problem.prompt,
                answer=problem.answer,
                completion=rollout.texts[number],
                finished=rollout.completions[number].finished,
                **rollout.parts[number]._asdict(),
                reward=rollout.rewards_GK[group, place].item(),
                advantage=rollout.advantages_GK[group, place].item(),
                kept=bool(rollout.kept_G[group]),
            )
        )
    write_atomic(path, "".join(row.model_dump_json() + "\n" for row in rows))


# -- update ----------------------------------------------------------------------------------------------------------


def learn(
    spec: RlhfSpec,
    loop: Loop,
    policy: Transformer,
    reference: Transformer,
    tokenizer: Tokenizer,
    rollout: Rollout,
    metrics: dict[str, float],
) -> None:
    """One update on the kept groups; none where no group is kept, and back to a snapshot where KL is out of bounds."""
    began = time.perf_counter()
    K = spec.group_size
    kept = [number for number in range(len(rollout.texts)) if rollout.kept_G[number // K]]
    if not kept:
        loop.skip(metrics)
        return
    sequences = Sequences(rollout.prompts, [completion.tokens for completion in rollout.completions]).take(kept)
    rows = pack(sequences, row_length(sequences.longest), tokenizer.pad_id, policy.embed_tokens.weight.device)
    advantages_A = rollout.advantages_GK.flatten()[kept].to(rows.tokens_BL.device)
    decoder_logps = [logp for number in kept for logp in rollout.completions[number].logprobs]
    loss, parts = objective(spec, policy, reference, rows, advantages_A, decoder_logps)
    if parts["kl"] > spec.max_kl:
        loop.run.log(f"step {loop.step}: KL to the reference is {parts['kl']:.3f} nat a token, allowed {spec.max_kl}")
        go_back(loop)
        return
    if parts["mismatch"] > MISMATCH_ALARM:
        loop.run.log(f"alarm at step {loop.step}: decoder and training differ by {parts['mismatch']:.3f} nat a token")
    loop.memory[INSIDE] = False
    loop.update(loss, metrics | parts | {"seconds/forward": time.perf_counter() - began})


def objective(
    spec: RlhfSpec,
    policy: Transformer,
    reference: Transformer,
    rows: AnswerRows,
    advantages_A: Tensor,
    decoder_logps: Sequence[float],
) -> tuple[Tensor, dict[str, float]]:
    """Clipped surrogate + kl_weight * k3 KL, token-level mean.

    The old log-probabilities are those of this very forward pass, since each rollout is used for one update: the
    ratio is exactly 1, whatever the decoder's own arithmetic said. How far that was off is the mismatch.

    Args:
        advantages_A: one value an answer.
        decoder_logps: the log-probabilities that `generate` reported, answer after answer.
    """
    log_probs = partial(answer_logprobs, rows=rows, temperature=spec.temperature)
    logps_BL = log_probs(policy)
    old_logps_BL = logps_BL.detach()
    with torch.no_grad():
        reference_logps_BL = log_probs(reference)
    advantages_BL, mask_BL = rows.spread(advantages_A), rows.mask_BL
    surrogate = clipped_surrogate(
        logps_BL, old_logps_BL, advantages_BL, mask_BL, clip_low=spec.clip_low, clip_high=spec.clip_high
    )
    kl = masked_mean(k3_kl(logps_BL, reference_logps_BL), mask_BL)
    ratio_BL = torch.exp(logps_BL.detach() - old_logps_BL)[mask_BL]
    mismatch_N = (in_answer_order(old_logps_BL, rows) - torch.tensor(decoder_logps).to(old_logps_BL)).abs()
    return surrogate + spec.kl_weight * kl, {
        "surrogate": surrogate.item(),
        "kl": kl.item(),
        "ratio_error": (ratio_BL - 1).abs().max().item(),
        "mismatch": mismatch_N.mean().item(),
        "mismatch_max": mismatch_N.max().item(),
    }


# -- the bound -------------------------------------------------------------------------------------------------------


def due(spec: RlhfSpec, loop: Loop) -> bool:
    """Measure before anything is written that others may build on."""
    return loop.step % spec.snapshot_every == 0 or loop.step == spec.steps or loop.run.stop_requested


def inside_bound(
    spec: RlhfSpec,
    loop: Loop,
    policy: Transformer,
    reference: Transformer,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
) -> bool:
    """Whether the upper 95 % bound of the KL on fresh answers is at most `max_kl`; remembered for the snapshot."""
    numbers = batch_numbers(len(problems), min(KL_PROMPTS, len(problems)), loop.step, spec.seed)
    kl = measure_kl(
        policy,
        reference,
        tokenizer,
        encode_prompts(tokenizer, [question(problems[i].prompt) for i in numbers]),
        max_new_tokens=spec.max_new_tokens,
        generator=fresh_generator(spec.seed, loop.step, 1, policy.embed_tokens.weight.device),
    )
    loop.run.metrics(loop.step, {"kl_fresh": kl.mean, "kl_upper": kl.high})
    loop.memory[INSIDE] = kl.high <= spec.max_kl
    loop.memory["kl"] = list(kl)
    if not loop.memory[INSIDE]:
        loop.run.log(f"step {loop.step}: KL to the reference is up to {kl.high:.3f} nat a token, allowed {spec.max_kl}")
    return bool(loop.memory[INSIDE])


def go_back(loop: Loop) -> None:
    """Back inside the bound at half the learning rate; after MAX_RETREATS of them that place is final."""
    retreat(loop)
    loop.memory["retreats"] += 1
    loop.lr_scale /= 2
    loop.snapshot()
    final = loop.memory["retreats"] > MAX_RETREATS
    loop.run.log(
        f"back to step {loop.step}, " + ("which is final" if final else f"{loop.lr_scale} of the learning rate")
    )


def report(loop: Loop) -> dict[str, object]:
    mean, low, high = loop.memory["kl"]
    return {
        "kl": mean,
        "kl_interval": [low, high],
        "retreats": loop.memory["retreats"],
        "lr_scale": loop.lr_scale,
        "steps": loop.step,
        "train_seconds": loop.seconds,
    }

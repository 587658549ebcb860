"""A Bradley-Terry reward model, and the candidate pairs it and DPO learn from.

Half the pairs set a verified solution against a distractor's, half against what the policy itself got wrong; labels
that people gave join them. The score of an answer is a linear head on the hidden state of its last token.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.alignment.answers import AnswerRows, Sequences, encode_answers, encode_prompts, pack, question, row_length
from trainer.alignment.kl_bound import fresh_generator
from trainer.alignment.reward_report import calibration, length_bias
from trainer.artifacts import Run, is_complete, new_folder, read_jsonl, step_folder, write_jsonl
from trainer.data.tokenizer import Tokenizer
from trainer.engine.loop import Loop
from trainer.engine.precision import pick_device, place
from trainer.intervals import wilson
from trainer.model.generate import generate
from trainer.model.mixtral import load_model, save_weights
from trainer.model.transformer import Transformer
from trainer.objectives import bradley_terry_loss, masked_mean
from trainer.rewards.correctness import correctness, extract_answer
from trainer.spec import Pair, PairScore, Problem, RewardSpec

PROMPTS_AT_ONCE = 256
TRIES_PER_PAIR = 4  # completions drawn at most for each pair wanted against the policy's own errors
HEAD = "reward_head.safetensors"


class RewardModel(nn.Module):
    """The network with one linear score; the head stays float32 and starts at 0, so that all answers start equal."""

    def __init__(self, network: Transformer) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Parameter(torch.zeros(1, network.config.hidden_size))

    def forward(self, rows: AnswerRows) -> Tensor:
        """Score of each answer, [A] float32."""
        hidden_BLD = self.network(rows.tokens_BL, segments_BL=rows.segments_BL).hidden_BLD
        last_AD = hidden_BLD.flatten(0, 1)[rows.last_A]
        scores_A: Tensor = (last_AD.float() @ self.head.T).squeeze(-1)
        return scores_A


def run(spec: RewardSpec, run: Run) -> None:
    checkpoint = run.input("checkpoint").checkpoint()
    tokenizer = Tokenizer.load(checkpoint)
    network = place(load_model(checkpoint), spec.precision, pick_device())
    pairs = candidate_pairs(spec, run, network, tokenizer)
    if run.stop_requested:
        return
    pairs = fitting(pairs + labelled_pairs(run), tokenizer, network.config.max_position_embeddings, run)
    train, heldout = split(pairs, spec)
    model = RewardModel(network).train()
    loop = Loop(run, spec, model)
    chosen, rejected = sides(tokenizer, train)
    length = row_length(max(chosen.longest, rejected.longest))
    preference_N = torch.tensor([pair.preference for pair in train], device=model.head.device)
    margin_N = torch.tensor([pair.margin for pair in train], device=model.head.device)
    for step in loop.steps():
        numbers = batch_numbers(len(train), spec.batch_pairs, step, spec.seed)
        chosen_P, rejected_P = score_pairs(model, chosen.take(numbers), rejected.take(numbers), length, tokenizer)
        loss = bradley_terry_loss(chosen_P, rejected_P, preference_N[numbers], margin_N[numbers])
        decided_P = preference_N[numbers] > 0.5
        accuracy = masked_mean((chosen_P > rejected_P).float(), decided_P).item()
        loop.update(loss, {"accuracy": accuracy, "margin": masked_mean(chosen_P - rejected_P, decided_P).item()})
    if not run.stop_requested:
        save_reward_model(run, loop, network, tokenizer)
        save_scores(run, pairs, differences(spec, model, pairs, tokenizer))
        run.folder.write_result(report(spec, loop, model, train, heldout, tokenizer))


# -- pairs -----------------------------------------------------------------------------------------------------------


def candidate_pairs(spec: RewardSpec, run: Run, policy: Transformer, tokenizer: Tokenizer) -> list[Pair]:
    """The pairs of artifacts/pairs, made now unless an earlier attempt of this run has made them."""
    folder = run.folder.artifacts / "pairs"
    if is_complete(folder):
        return list(read_jsonl(folder / "pairs.jsonl", Pair))
    problems = list(read_jsonl(run.input("problems").artifact("problems") / "train.jsonl", Problem))
    problems = [problem for problem in problems if problem.distractors and problem.solution]
    if not problems:
        raise ValueError("input 'problems' has no training problem with a solution and a distractor to make pairs of")
    order = np.random.default_rng([spec.seed, 1]).permutation(len(problems))
    shuffled = [problems[index] for index in order]
    wanted = spec.pairs // 2
    own, tried = policy_error_pairs(spec, run, policy, tokenizer, shuffled, wanted)
    if run.stop_requested:
        return []
    rest = shuffled[tried % len(shuffled) :] + shuffled[: tried % len(shuffled)]
    pairs = own + distractor_pairs(rest, spec.pairs - len(own), spec.seed)
    run.log(f"{len(own)} of {wanted} pairs are the policy's own errors, from {tried} answers")
    if len(own) < wanted:
        run.log(f"the policy erred too rarely: {wanted - len(own)} further pairs set a distractor against the solution")
    with new_folder(folder) as target:
        write_jsonl(target / "pairs.jsonl", pairs)
    return pairs


def policy_error_pairs(
    spec: RewardSpec, run: Run, policy: Transformer, tokenizer: Tokenizer, problems: Sequence[Problem], wanted: int
) -> tuple[list[Pair], int]:
    """Pairs against answers that the policy gave, finished and got wrong; and how many answers that took."""
    pairs: list[Pair] = []
    tried = 0
    while len(pairs) < wanted and tried < min(TRIES_PER_PAIR * wanted, len(problems)) and not run.stop_requested:
        batch = problems[tried : tried + PROMPTS_AT_ONCE]
        tried += len(batch)
        completions = generate(
            policy,
            encode_prompts(tokenizer, [question(problem.prompt) for problem in batch]),
            max_new_tokens=spec.max_new_tokens,
            end_id=tokenizer.end_id,
            temperature=1.0,
            generator=fresh_generator(spec.seed, tried, 0, policy.embed_tokens.weight.device),
        )
        for problem, completion in zip(batch, completions, strict=True):
            said = tokenizer.decode(completion.tokens)
            if completion.finished and is_wrong(said, problem.answer):
                pairs.append(make_pair(problem, said, "policy_error", {}))
        run.progress(0, spec.steps, f"{min(len(pairs), wanted)} of {wanted} own errors found")
    return pairs[:wanted], tried


def is_wrong(said: str, expected: str) -> bool:
    """An answer was given, and it is not the expected one. No answer at all teaches nothing about mistakes."""
    return extract_answer(said) is not None and correctness(said, expected) == 0.0


def distractor_pairs(problems: Sequence[Problem], count: int, seed: int) -> list[Pair]:
    """Pairs against distractors, each (problem, distractor) at most once.

    Raises:
        ValueError: the problems do not have so many distractors.
    """
    available = sum(len(problem.distractors) for problem in problems)
    if available < count:
        raise ValueError(f"the problems have {available} distractors for {count} pairs; lower 'pairs' of the job")
    rng = np.random.default_rng([seed, 2])
    orders = [rng.permutation(len(problem.distractors)) for problem in problems]
    pairs: list[Pair] = []
    for turn in range(max(len(order) for order in orders)):
        for problem, order in zip(problems, orders, strict=True):
            if len(pairs) == count:
                return pairs
            if turn < len(order):
                distractor = problem.distractors[order[turn]]
                pairs.append(make_pair(problem, distractor.solution, "distractor", {"mistake": distractor.mistake}))
    return pairs


def make_pair(problem: Problem, rejected: str, origin: str, meta: dict[str, Any]) -> Pair:
    name = hashlib.sha256("\0".join((problem.prompt, problem.solution, rejected)).encode()).hexdigest()[:16]
    meta = {"problem": problem.id, "family": problem.family, **meta}
    return Pair(
        id=name, prompt=question(problem.prompt), chosen=problem.solution, rejected=rejected, origin=origin, meta=meta
    )


def labelled_pairs(run: Run) -> list[Pair]:
    """Pairs that people labelled, where the job has an input 'labels'."""
    if "labels" not in run.folder.job().inputs:
        return []
    pairs = list(read_jsonl(run.input("labels").artifact("labels") / "pairs.jsonl", Pair))
    run.log(f"{len(pairs)} labelled pairs join")
    return pairs


def fitting(pairs: Sequence[Pair], tokenizer: Tokenizer, context: int, run: Run) -> list[Pair]:
    """The pairs whose both sides fit the context; how many do not is logged.

    Raises:
        ValueError: none fits.
    """
    chosen, rejected = sides(tokenizer, pairs)
    sizes = [
        len(prompt) + max(len(a), len(b))
        for prompt, a, b in zip(chosen.prompts, chosen.answers, rejected.answers, strict=True)
    ]
    kept = [pair for pair, size in zip(pairs, sizes, strict=True) if size <= context]
    if not kept:
        raise ValueError(f"no pair of {len(pairs)} fits the context of {context} tokens")
    if len(kept) < len(pairs):
        run.log(f"{len(pairs) - len(kept)} of {len(pairs)} pairs are longer than {context} tokens and left out")
    return kept


def sides(tokenizer: Tokenizer, pairs: Sequence[Pair]) -> tuple[Sequences, Sequences]:
    """Token ids of the chosen and of the rejected answers."""
    prompts = [pair.prompt for pair in pairs]
    chosen = encode_answers(tokenizer, prompts, [pair.chosen for pair in pairs])
    return chosen, encode_answers(tokenizer, prompts, [pair.rejected for pair in pairs])


def split(pairs: Sequence[Pair], spec: RewardSpec) -> tuple[list[Pair], list[Pair]]:
    """Training and held-out pairs; all pairs of one prompt fall on the same side."""

    def place(pair: Pair) -> str:
        prompt = "\0".join(message.content for message in pair.prompt)
        return hashlib.sha256(f"{spec.seed}\0{prompt}".encode()).hexdigest()

    places = sorted({place(pair) for pair in pairs})
    count = round(len(places) * spec.heldout_share)
    if not 0 < count < len(places):
        raise ValueError(f"{len(places)} prompts cannot be split with heldout_share {spec.heldout_share}; give more")
    held = set(places[:count])
    train = [pair for pair in pairs if place(pair) not in held]
    return train, [pair for pair in pairs if place(pair) in held]


# -- training and report ---------------------------------------------------------------------------------------------


def batch_numbers(size: int, count: int, step: int, seed: int) -> list[int]:
    """Which items step number `step` takes: every item once an epoch, each epoch in an order of its own."""
    numbers: list[int] = []
    for epoch in range(step * count // size, ((step + 1) * count - 1) // size + 1):
        order = np.random.default_rng([seed, 3, epoch]).permutation(size)
        start, end = max(step * count - epoch * size, 0), min((step + 1) * count - epoch * size, size)
        numbers += order[start:end].tolist()
    return numbers


def score_pairs(
    model: RewardModel, chosen: Sequences, rejected: Sequences, length: int, tokenizer: Tokenizer
) -> tuple[Tensor, Tensor]:
    """Scores of both sides of P pairs, [P] and [P], in one forward pass."""
    both = Sequences(chosen.prompts + rejected.prompts, chosen.answers + rejected.answers)
    scores_A = model(pack(both, length, tokenizer.pad_id, model.head.device))
    return scores_A[: len(chosen.prompts)], scores_A[len(chosen.prompts) :]


def save_reward_model(run: Run, loop: Loop, network: Transformer, tokenizer: Tokenizer) -> None:
    """A checkpoint of the network as ever, with the head in a file of its own."""
    weights = loop.optimizer.weights()
    inner = {name.removeprefix("network."): tensor for name, tensor in weights.items() if name.startswith("network.")}
    with new_folder(step_folder(run.folder.checkpoints, loop.step)) as folder:
        save_weights(folder, network.config, inner, tokenizer)
        save_file({"weight": weights["head"].float().cpu().contiguous()}, folder / HEAD)


def longer_wins(pairs: Sequence[Pair]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """+1 where the chosen text is the longer one, -1 where the rejected one is, 0 for equal lengths."""
    return np.sign([len(pair.chosen) - len(pair.rejected) for pair in pairs]).astype(np.int64)


def length_baseline(train: Sequence[Pair], heldout: Sequence[Pair]) -> float:
    """Held-out accuracy of "the longer wins" or "the shorter wins", whichever the training pairs favour; a tie of
    lengths counts half."""
    direction = 1 if longer_wins([pair for pair in train if pair.preference > 0.5]).sum() >= 0 else -1
    return float(np.mean((longer_wins(heldout) * direction + 1) / 2))


@torch.no_grad()
def differences(spec: RewardSpec, model: RewardModel, pairs: Sequence[Pair], tokenizer: Tokenizer) -> list[float]:
    """Score of the first answer minus that of the second, pair by pair."""
    chosen, rejected = sides(tokenizer, pairs)
    length = row_length(max(chosen.longest, rejected.longest))
    found: list[float] = []
    for start in range(0, len(pairs), spec.batch_pairs):
        numbers = range(start, min(start + spec.batch_pairs, len(pairs)))
        chosen_P, rejected_P = score_pairs(model, chosen.take(numbers), rejected.take(numbers), length, tokenizer)
        found += (chosen_P - rejected_P).tolist()
    return found


def save_scores(run: Run, pairs: Sequence[Pair], found: Sequence[float]) -> None:
    """What it thinks of every pair, so that people can be asked about those that it is least sure of."""
    with new_folder(run.folder.artifacts / "scores") as folder:
        scores = (PairScore(id=pair.id, difference=d) for pair, d in zip(pairs, found, strict=True))
        write_jsonl(folder / "scores.jsonl", scores)


def report(
    spec: RewardSpec,
    loop: Loop,
    model: RewardModel,
    train: Sequence[Pair],
    heldout: Sequence[Pair],
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """Held-out accuracy with its interval, by origin, beside what length alone would reach; calibration. Ties are
    counted, and judged nowhere."""
    decided = [pair for pair in heldout if pair.preference > 0.5]
    if not decided:
        raise ValueError("every held-out pair is a tie: nothing can be judged; give more pairs")
    found = differences(spec, model, decided, tokenizer)
    accuracy = wilson(sum(d > 0 for d in found), len(found))
    outcomes: dict[str, list[bool]] = {}
    for pair, d in zip(decided, found, strict=True):
        outcomes.setdefault(pair.origin, []).append(d > 0)
    return {
        "accuracy": accuracy.mean,
        "accuracy_interval": [accuracy.low, accuracy.high],
        "n": len(decided),
        "ties": sum(pair.preference == 0.5 for pair in [*train, *heldout]),
        "length_baseline": length_baseline(train, decided),
        "length_bias": length_bias(found, [len(pair.chosen) - len(pair.rejected) for pair in decided]),
        "calibration": calibration(found),
        "by_origin": {name: {"n": len(won), "accuracy": sum(won) / len(won)} for name, won in sorted(outcomes.items())},
        "pairs": dict(sorted(Counter(pair.origin for pair in [*train, *heldout]).items())),
        "steps": loop.step,
        "train_seconds": loop.seconds,
    }

"""How good a checkpoint is: exact match on held-out problems, perplexity per source, expert load, code that parses, and
the paired difference to an earlier evaluation."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from trainer.alignment.answers import encode_prompts, question
from trainer.artifacts import Run, new_folder, read_jsonl, write_jsonl
from trainer.data.code_rows import beginnings, gaps
from trainer.data.rows import open_rows
from trainer.data.tokenizer import Tokenizer
from trainer.engine.code_quality import filled, parsed
from trainer.engine.next_token import next_token_loss
from trainer.engine.precision import pick_device
from trainer.engine.syntax import PROMPT_TOKENS
from trainer.intervals import paired_difference, wilson
from trainer.model.generate import Completion, generate
from trainer.model.mixtral import load_model
from trainer.model.moe import expert_counts
from trainer.model.transformer import Transformer
from trainer.rewards.correctness import correctness, extract_answer, shows_work, well_formed
from trainer.spec import EvaluateSpec, Problem

PROMPTS_AT_ONCE = 256
ROWS_AT_ONCE, TOKENS_AT_ONCE = 8, 65_536  # of held-out text, at most
CODE_TOKENS, MIDDLE_TOKENS = 64, 24  # to write freely, and of gaps to fill, at most


class Answer(BaseModel):
    """One line of artifacts/answers/answers.jsonl."""

    id: str
    family: str
    level: int
    prompt: str
    expected: str
    completion: str
    answer: str | None
    correct: bool
    finished: bool
    shows_work: bool
    well_formed: bool


def run(spec: EvaluateSpec, run: Run) -> None:
    """Evaluate in float32, so that an answer does not depend on which others it was computed with."""
    checkpoint = run.input("checkpoint").checkpoint()
    tokenizer = Tokenizer.load(checkpoint)
    model = load_model(checkpoint, torch.float32).to(pick_device())
    heldout = list(read_jsonl(run.input("problems").artifact("problems") / "heldout.jsonl", Problem))
    problems = evenly(heldout, spec.problems)
    if len(problems) < spec.problems:
        run.log(f"only {len(problems)} held-out problems, {spec.problems} asked for")
    answers = answer_all(spec, run, model, tokenizer, problems)
    perplexities, load = read_heldout(spec, run, model)
    code = code_quality(spec, run, model, tokenizer)
    if run.stop_requested:
        return
    result = summary(answers) | {"perplexity": perplexities, "expert_load": load}
    result |= ({"code": code} if code else {}) | against_baseline(run, answers)
    with new_folder(run.folder.artifacts / "answers") as folder:
        write_jsonl(folder / "answers.jsonl", answers)
    run.metrics(0, {"exact_match": result["exact_match"], **{f"perplexity/{k}": v for k, v in perplexities.items()}})
    run.folder.write_result(result)
    low, high = result["exact_match_interval"]
    run.log(f"exact match {result['exact_match']:.1%} ({low:.1%} to {high:.1%}) on {len(answers)} problems")


def evenly(problems: Sequence[Problem], count: int) -> list[Problem]:
    """The first `count` problems when the families take turns, each in the order of its ids.

    The same problems for the same input, whatever is evaluated: so two evaluations can be paired.

    Raises:
        ValueError: there are none.
    """
    if not problems:
        raise ValueError("input 'problems' has no held-out problem; raise 'heldout' of the synthesize job")
    families: dict[str, list[Problem]] = {}
    for problem in sorted(problems, key=lambda problem: problem.id):
        families.setdefault(problem.family, []).append(problem)
    turns = [(turn, name, problem) for name, members in families.items() for turn, problem in enumerate(members)]
    turns.sort(key=lambda item: (item[0], item[1]))
    return [problem for _, _, problem in turns[:count]]


def answer_all(
    spec: EvaluateSpec, run: Run, model: Transformer, tokenizer: Tokenizer, problems: Sequence[Problem]
) -> list[Answer]:
    """Greedy answers, in the order of the problems; prompts of like length are decoded together."""
    prompts = encode_prompts(tokenizer, [question(problem.prompt) for problem in problems])
    order = sorted(range(len(problems)), key=lambda i: len(prompts[i]))
    found: dict[int, Completion] = {}
    for start in range(0, len(order), PROMPTS_AT_ONCE):
        if run.stop_requested:
            return []
        numbers = order[start : start + PROMPTS_AT_ONCE]
        batch = [prompts[i] for i in numbers]
        completions = generate(
            model, batch, max_new_tokens=spec.max_new_tokens, end_id=tokenizer.end_id, temperature=0.0
        )
        found |= dict(zip(numbers, completions, strict=True))
        run.progress(len(found), len(order), "answering held-out problems")
    return [judge(problem, found[i], tokenizer) for i, problem in enumerate(problems)]


def judge(problem: Problem, completion: Completion, tokenizer: Tokenizer) -> Answer:
    """Exact match: the answer given equals the verified one, and the completion ended by itself."""
    text = tokenizer.decode(completion.tokens)
    return Answer(
        id=problem.id,
        family=problem.family,
        level=problem.level,
        prompt=problem.prompt,
        expected=problem.answer,
        completion=text,
        answer=extract_answer(text),
        correct=completion.finished and correctness(text, problem.answer) == 1.0,
        finished=completion.finished,
        shows_work=shows_work(text),
        well_formed=completion.finished and well_formed(text),
    )


# -- perplexity and expert load --------------------------------------------------------------------------------------


@torch.no_grad()
def read_heldout(spec: EvaluateSpec, run: Run, model: Transformer) -> tuple[dict[str, float], list[list[float]]]:
    """Perplexity per source on its first held-out rows, and each layer's share of choices per expert over them all."""
    sources = open_rows(run.input("dataset").artifact("tokens"), "heldout") if spec.perplexity_rows else {}
    config = model.config
    counts_YE = torch.zeros(config.num_hidden_layers, config.num_local_experts)
    perplexities: dict[str, float] = {}
    for name, rows in sources.items():
        total, targets = 0.0, 0
        last, at_once = min(spec.perplexity_rows, len(rows)), min(ROWS_AT_ONCE, rows.within(TOKENS_AT_ONCE))
        for start in range(0, last, at_once):
            if run.stop_requested:
                return {}, []
            batch = rows.take(np.arange(start, min(start + at_once, last))).to(model.embed_tokens.weight.device)
            output = model(batch.tokens_BL, segments_BL=batch.segments_BL)
            counted = int(batch.targets_mask_BL.sum())
            total += next_token_loss(model, output, batch).item() * counted
            targets += counted
            real_T = (batch.segments_BL > 0).flatten()
            counts_YE += expert_counts(output.routing, real_T, config.num_local_experts).cpu()
        if targets:
            perplexities[name] = math.exp(total / targets)
    shares_YE = counts_YE / counts_YE.sum(dim=1, keepdim=True).clamp(min=1)
    return perplexities, shares_YE.tolist()


# -- code ------------------------------------------------------------------------------------------------------------


def code_quality(spec: EvaluateSpec, run: Run, model: Transformer, tokenizer: Tokenizer) -> dict[str, dict[str, float]]:
    """parse_rate of free continuations of held-out code and infilling_exact_match, each with its interval; only what
    was asked for and the dataset has code for."""
    if run.stop_requested or not (spec.code_samples or spec.infilling_rows):
        return {}
    rows = open_rows(run.input("dataset").artifact("tokens"), "heldout").get("completion")
    if rows is None:
        return {}
    found: dict[str, list[bool]] = {}
    if spec.code_samples and (prompts := beginnings(rows, tokenizer, PROMPT_TOKENS)):
        found["parse_rate"] = parsed(model, tokenizer, prompts, spec.code_samples, CODE_TOKENS, spec.seed)
    if spec.infilling_rows and (gap_rows := gaps(rows, tokenizer, MIDDLE_TOKENS)):
        found["infilling_exact_match"] = filled(model, tokenizer, gap_rows[: spec.infilling_rows])
    return {name: {**wilson(sum(right), len(right))._asdict(), "n": len(right)} for name, right in found.items()}


# -- summary ---------------------------------------------------------------------------------------------------------


def summary(answers: Sequence[Answer]) -> dict[str, Any]:
    n = len(answers)
    match = wilson(sum(answer.correct for answer in answers), n)
    return {
        "exact_match": match.mean,
        "exact_match_interval": [match.low, match.high],
        "n": n,
        "by_family": shares_by(answers, lambda answer: answer.family),
        "by_level": shares_by(answers, lambda answer: str(answer.level)),
        "shows_work": sum(answer.shows_work for answer in answers) / n,
        "well_formed": sum(answer.well_formed for answer in answers) / n,
        "finished": sum(answer.finished for answer in answers) / n,
    }


def shares_by(answers: Sequence[Answer], key: Callable[[Answer], str]) -> dict[str, dict[str, float]]:
    """Group -> exact match, its interval's ends and the number of problems."""
    groups: dict[str, list[bool]] = {}
    for answer in answers:
        groups.setdefault(key(answer), []).append(answer.correct)
    shares = {}
    for name, correct in sorted(groups.items()):
        match = wilson(sum(correct), len(correct))
        shares[name] = {"exact_match": match.mean, "low": match.low, "high": match.high, "n": len(correct)}
    return shares


def against_baseline(run: Run, answers: Sequence[Answer]) -> dict[str, Any]:
    """The paired difference of exact match to the input 'baseline', over the problems both answered; {} without one.

    Raises:
        ValueError: they have no problem in common.
    """
    if "baseline" not in run.folder.job().inputs:
        return {}
    return {"baseline_difference": paired(answers, run.input("baseline").artifact("answers") / "answers.jsonl")}


def paired(answers: Sequence[Answer], baseline: Path) -> dict[str, float]:
    before = {answer.id: answer.correct for answer in read_jsonl(baseline, Answer)}
    both = [(answer.correct, before[answer.id]) for answer in answers if answer.id in before]
    if not both:
        raise ValueError("the baseline answered none of these problems; bind one that read the same problems")
    difference = paired_difference([after for after, _ in both], [earlier for _, earlier in both])
    return {**difference._asdict(), "n": len(both)}

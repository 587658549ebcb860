"""Claim 6: a curriculum of three phases and a penalty for code that does not parse.

The article gives no figure. Three arms of the nano network take the same number of steps on the same number of rows of
each source, as the fine-tuning stage takes them: with the sources mixed evenly from the first step to the last, in the
curriculum's three phases, and in these with the syntax penalty. Each then goes on freely from beginnings of held-out
code and fills held-out gaps. The measure is the share of what it wrote that parses, the last arm against the first.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.dataset import nano_dataset, run_job
from trainer.data.code_rows import Gap, beginnings, gaps
from trainer.data.rows import Rows, open_rows
from trainer.data.tokenizer import Tokenizer
from trainer.engine.code_quality import filled
from trainer.engine.next_token import next_token_loss
from trainer.engine.syntax import PROMPT_TOKENS, find_error, write
from trainer.model.mixtral import load_model
from trainer.model.transformer import Transformer
from trainer.spec import CURRICULUM, PhaseSpec, SftSpec, SyntaxPenalty, load_recipe

STEPS, QUICK_STEPS = 600, 120
SAMPLES, NEW_TOKENS = 384, 48
EASY_MIDDLE = 24  # tokens: longer gaps are hardly ever filled exactly by so small a network
HELDOUT_ROWS = 64
OFF, ON = SyntaxPenalty(weight=0), SyntaxPenalty(every=2, prompts=32)


def even_mix(phases: tuple[PhaseSpec, ...]) -> tuple[PhaseSpec, ...]:
    """One phase that draws as many rows of each source as these do together."""
    mix = dict.fromkeys(phases[-1].mix, 0.0)
    for phase in phases:
        for source, weight in phase.mix.items():
            mix[source] += phase.share * weight / sum(phase.mix.values())
    return (PhaseSpec(phase="dialogue", share=1.0, mix=mix),)


ARMS: Mapping[str, Mapping[str, Any]] = {
    "even": {"phases": even_mix(CURRICULUM), "syntax_penalty": OFF},
    "curriculum": {"phases": CURRICULUM, "syntax_penalty": OFF},
    "penalty": {"phases": CURRICULUM, "syntax_penalty": ON},
}


def train(seed: int, steps: int, changes: Mapping[str, Any]) -> Transformer:
    """The nano recipe's first fine-tuning with these changes."""
    spec = next(job for job in load_recipe("nano").jobs if isinstance(job, SftSpec) and job.model is not None)
    spec = spec.model_copy(update={"seed": seed, "steps": steps, **changes})
    with tempfile.TemporaryDirectory(prefix="octavo-claims-") as home:
        done = run_job(Path(home) / spec.name, spec, {spec.inputs["dataset"]: nano_dataset()})
        return load_model(done.checkpoint(), torch.float32)


def quality(model: Transformer, tokenizer: Tokenizer, rows: Rows, seed: int) -> dict[str, float]:
    """What it writes and fills, in %; and its loss on held-out code, in nat per token."""
    prompts = beginnings(rows, tokenizer, PROMPT_TOKENS)
    taken = [prompts[number % len(prompts)] for number in range(SAMPLES)]
    written = write(model, tokenizer, taken, NEW_TOKENS, torch.Generator().manual_seed(seed))
    errors = [find_error(tokenizer, *pair) for pair in zip(taken, written, strict=True)]
    context = model.config.max_position_embeddings
    exact = filled(model, tokenizer, gaps(rows, tokenizer, EASY_MIDDLE))
    return {
        "parse_rate": 100 * errors.count(None) / SAMPLES,
        "tokens_written": fmean(len(completion.tokens) for completion in written),
        "infilling_exact": 100 * fmean(exact),
        "infilling_accuracy": 100 * middle_accuracy(model, gaps(rows, tokenizer, context)),
        "code_loss": code_loss(model, rows),
    }


@torch.no_grad()
def middle_accuracy(model: Transformer, filled_gaps: list[Gap]) -> float:
    """Share of the middles' tokens that are the most probable ones after what is right before them."""
    right, total = 0, 0
    for gap in filled_gaps:
        logits_LV = model.logits(model(torch.tensor([[*gap.prompt, *gap.middle]])).hidden_BLD)[0]
        guessed_N = logits_LV[len(gap.prompt) - 1 : -1].argmax(dim=-1)
        right += int((guessed_N == torch.tensor(gap.middle)).sum())
        total += len(gap.middle)
    return right / total


@torch.no_grad()
def code_loss(model: Transformer, rows: Rows) -> float:
    batch = rows.take(torch.arange(min(HELDOUT_ROWS, len(rows))).numpy())
    return next_token_loss(model, model(batch.tokens_BL, segments_BL=batch.segments_BL), batch).item()


def measure(seed: int, quick: bool) -> Measurement:
    tokenizer = Tokenizer.load(nano_dataset().artifact("tokenizer"))
    heldout = open_rows(nano_dataset().artifact("tokens"), "heldout")["completion"]
    found = {
        name: quality(train(seed, QUICK_STEPS if quick else STEPS, changes), tokenizer, heldout, seed)
        for name, changes in ARMS.items()
    }
    details = {f"{arm}/{name}": value for arm, values in found.items() for name, value in values.items()}
    return Measurement(found["even"]["parse_rate"], found["penalty"]["parse_rate"], details)


CLAIM = Claim(
    number=6,
    title="curriculum and syntax penalty against an even mix without, equal steps and rows",
    unit="% of freely written code that parses",
    measure=measure,
    limits="the penalty's own generation and forward passes come on top of the equal steps; parsed is what tree-sitter "
    "takes for Python, which hardly minds indentation",
)

"""python -m benchmarks.speed: training and generated tokens/s of the nano network, with random weights.

Speed does not depend on what the weights are; answers are cut at a fixed length, so that every run does the same work.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.machine import commit, hardware, today
from trainer.artifacts import write_atomic
from trainer.engine.precision import resolve_precision
from trainer.model.generate import generate
from trainer.model.transformer import Transformer
from trainer.objectives import masked_cross_entropy
from trainer.spec import SftSpec, load_recipe

RESULTS = Path(__file__).parent.parent / "results" / "speed.json"
REPEATS = 5
BATCHES = (1, 8, 32)
PROMPT_TOKENS, NEW_TOKENS = 32, 64
NEVER = -1  # as the end of an answer: no token has this number


def per_second(work: int, action: Callable[[], object]) -> float:
    """Median over some repeats, after one that warms up."""
    action()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return work / statistics.median(seconds)


def training(model: Transformer, rows: int, context: int) -> float:
    """Tokens/s of forward, backward and an AdamW step, eager."""
    optimizer = torch.optim.AdamW(model.parameters())
    tokens_BL = torch.randint(model.config.vocab_size, (rows, context))
    mask_BL = torch.ones_like(tokens_BL, dtype=torch.bool)

    def step() -> None:
        logits_BLV = model.logits(model(tokens_BL).hidden_BLD)
        masked_cross_entropy(logits_BLV, tokens_BL.roll(-1, dims=1), mask_BL).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return per_second(tokens_BL.numel(), step)


def generation(model: Transformer, batch: int) -> float:
    """Generated tokens/s for so many prompts at once, greedy."""
    prompts = torch.randint(model.config.vocab_size, (batch, PROMPT_TOKENS)).tolist()
    generator = torch.Generator().manual_seed(0)

    def answer() -> None:
        generate(model, prompts, max_new_tokens=NEW_TOKENS, end_id=NEVER, temperature=0.0, generator=generator)

    return per_second(batch * NEW_TOKENS, answer)


def measure() -> dict[str, float]:
    torch.manual_seed(0)
    spec = next(job for job in load_recipe("nano").jobs if isinstance(job, SftSpec))
    assert spec.model is not None, "the first fine-tuning of the recipe makes a new network"
    model = Transformer(spec.model)
    model.reset_parameters(torch.Generator().manual_seed(0))
    model = model.to(dtype=resolve_precision("auto", torch.device("cpu")))
    found = {"training tokens/s": training(model.train(), spec.batch_rows, spec.model.max_position_embeddings)}
    for batch in BATCHES:
        found[f"generated tokens/s, {batch} at once"] = generation(model.eval(), batch)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file the figures are written to")
    path = parser.parse_args(arguments).results
    found = measure()
    for name, value in found.items():
        print(f"{name:<36} {value:>10,.0f}")
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), "figures": found}
    write_atomic(path, json.dumps(described, indent=1) + "\n")
    print(f"kept in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

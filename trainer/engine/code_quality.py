"""How well a network writes code: how much of what it freely writes parses, and how many gaps it fills exactly."""

from collections.abc import Sequence

import torch

from trainer.data.code_rows import Gap
from trainer.data.tokenizer import Tokenizer
from trainer.engine.syntax import find_error, write
from trainer.model.generate import generate
from trainer.model.transformer import Transformer


def parsed(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    samples: int,
    new_tokens: int,
    seed: int,
) -> list[bool]:
    """Whether each free continuation parses, an error at the cut-off end aside; the prompts take turns."""
    taken = [prompts[number % len(prompts)] for number in range(samples)]
    written = write(model, tokenizer, taken, new_tokens, torch.Generator().manual_seed(seed))
    return [find_error(tokenizer, *pair) is None for pair in zip(taken, written, strict=True)]


def filled(model: Transformer, tokenizer: Tokenizer, gaps: Sequence[Gap]) -> list[bool]:
    """Whether each gap's greedy middle says what was there and ends where it ended."""
    if not gaps:
        return []
    longest = max(len(gap.middle) for gap in gaps)
    completions = generate(
        model, [gap.prompt for gap in gaps], max_new_tokens=longest, end_id=tokenizer.end_id, temperature=0.0
    )
    return [
        completion.finished and tokenizer.decode(completion.tokens) == tokenizer.decode(gap.middle)
        for gap, completion in zip(gaps, completions, strict=True)
    ]

"""The syntax penalty: the network goes on from beginnings of programs, and what does not parse costs.

Shapes: B rows of L tokens, P of them the prompt's, N = L - P written, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainer.data.code_rows import LANGUAGE, beginnings
from trainer.data.rows import Rows
from trainer.data.structure.errors import Span, first_error
from trainer.data.tokenizer import Tokenizer
from trainer.model.generate import Completion, generate
from trainer.model.transformer import Transformer
from trainer.objectives import syntax_penalty
from trainer.spec import PhaseSpec, SyntaxPenalty

PROMPT_TOKENS = 16


class SyntaxCheck:
    """Draws beginnings from the training code and lets the network write.

    Attributes:
        prompts: what it draws from; there may be none.
    """

    def __init__(self, settings: SyntaxPenalty, code: Rows | None, tokenizer: Tokenizer) -> None:
        self.settings, self.tokenizer = settings, tokenizer
        self.prompts = beginnings(code, tokenizer, PROMPT_TOKENS) if code is not None and settings.weight else []

    def due(self, step: int, phase: PhaseSpec) -> bool:
        """Every some steps of the phases that draw code, once the network has seen some: not in the first, of text."""
        wanted = phase.phase != "text" and phase.mix.get("completion", 0) > 0
        return bool(self.prompts) and wanted and step % self.settings.every == 0

    def loss(self, model: Transformer, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The weighted penalty of freshly written code, and what is to be reported of it."""
        drawn = torch.randint(len(self.prompts), (self.settings.prompts,), generator=generator)
        prompts = [self.prompts[number] for number in drawn.tolist()]
        # Compiling for these shapes too would take longer.
        with torch.compiler.set_stance("force_eager"):
            written = write(model, self.tokenizer, prompts, self.settings.new_tokens, generator)
            errors = [find_error(self.tokenizer, *pair) for pair in zip(prompts, written, strict=True)]
            penalty = self._penalty(model, prompts, written, errors)
        parts = {"syntax_penalty": penalty.item(), "parse_rate": errors.count(None) / len(errors)}
        return self.settings.weight * penalty, parts

    def _penalty(
        self,
        model: Transformer,
        prompts: Sequence[Sequence[int]],
        written: Sequence[Completion],
        errors: Sequence[Span | None],
    ) -> Tensor:
        """One forward pass over prompts and what was written, padded at the end."""
        device, prompted = model.embed_tokens.weight.device, len(prompts[0])
        longest = max(len(completion.tokens) for completion in written)
        rows = [
            [*prompt, *completion.tokens] + [self.tokenizer.pad_id] * (longest - len(completion.tokens))
            for prompt, completion in zip(prompts, written, strict=True)
        ]
        error_BN = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, (completion, error) in enumerate(zip(written, errors, strict=True)):
            if error is not None:
                marked = tokens_within(self.tokenizer, prompts[row], completion, error)
                error_BN[row, : len(marked)] = torch.tensor(marked)
        tokens_BL = torch.tensor(rows, device=device)
        hidden_BND = model(tokens_BL).hidden_BLD[:, prompted - 1 : -1]
        return syntax_penalty(model.logits(hidden_BND), tokens_BL[:, prompted:], error_BN.to(device))


def write(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    generator: torch.Generator,
) -> list[Completion]:
    """Free continuations: sampled from the network's own distribution."""
    return generate(
        model,
        prompts,
        max_new_tokens=new_tokens,
        end_id=tokenizer.end_id,
        temperature=1.0,
        generator=generator,
    )


def find_error(tokenizer: Tokenizer, prompt: Sequence[int], completion: Completion) -> Span | None:
    """The first error node of prompt and completion that the completion has part in; None where the whole parses."""
    before = b"".join(tokenizer.bytes_of(prompt))
    source = before + b"".join(tokenizer.bytes_of(completion.tokens))
    return first_error(source, LANGUAGE, ended=completion.finished, start=len(before))


def tokens_within(tokenizer: Tokenizer, prompt: Sequence[int], completion: Completion, error: Span) -> list[bool]:
    """Which tokens of a completion share a byte with an error; the end token stands for the place after the text."""
    lengths = [len(text) for text in tokenizer.bytes_of(completion.tokens)]
    if completion.finished:
        lengths[-1] = 1
    ends = len(b"".join(tokenizer.bytes_of(prompt))) + np.cumsum(lengths)
    within = (ends > error.start) & (ends - lengths < error.end) & (np.array(lengths) > 0)
    marked: list[bool] = within.tolist()
    return marked

"""Batched decoding over the live weights: rollouts, candidates, evaluation. Finished rows are compacted away."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainer.model.config import ModelConfig
from trainer.model.decode_cache import LeftPaddedCache
from trainer.model.transformer import Transformer


@dataclass
class Completion:
    """What the network added to a prompt; `finished` when it ended by itself, its end token included."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


def sample(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """One token a row and its log-probability under the sampled distribution; temperature 0 is greedy.

    Samples by inverting the distribution function: one random number a row instead of `multinomial`'s one a token.
    """
    logprobs_BV = (logits_BV / temperature if temperature > 0 else logits_BV).log_softmax(dim=-1)
    if temperature > 0:
        cumulative_BV = logprobs_BV.exp().cumsum(dim=-1)
        device = logits_BV.device if generator is None else generator.device
        uniform_B1 = torch.rand(len(logits_BV), 1, generator=generator, device=device).to(logits_BV.device)
        tokens_B = torch.searchsorted(cumulative_BV, uniform_B1 * cumulative_BV[:, -1:], right=True).squeeze(1)
        tokens_B = tokens_B.clamp(max=logits_BV.shape[1] - 1)
    else:
        tokens_B = logprobs_BV.argmax(dim=-1)
    return tokens_B, logprobs_BV.gather(1, tokens_B[:, None]).squeeze(1)


@torch.no_grad()
def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    end_id: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[Completion]:
    """Complete every prompt, all at once.

    Raises:
        ValueError: a prompt is empty, or leaves no room for one token in the context.
    """
    limit = _room(model.config, prompts, max_new_tokens)
    device = model.embed_tokens.weight.device
    lengths_B = torch.tensor([len(prompt) for prompt in prompts], device=device)
    width = int(lengths_B.max())
    tokens_BL = torch.tensor([[end_id] * (width - len(p)) + list(p) for p in prompts], device=device)
    cache = LeftPaddedCache(model.config, lengths_B, width + limit, model.embed_tokens.weight.dtype)
    positions_BL = (torch.arange(width, device=device) - (width - lengths_B)[:, None]).clamp(min=0)
    completions = [Completion() for _ in prompts]
    rows_B = torch.arange(len(prompts))
    done_B = torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(limit):
        hidden_BD = model(tokens_BL, positions_BL=positions_BL, cache=cache).hidden_BLD[:, -1]
        next_B, logprob_B = sample(model.logits(hidden_BD), temperature, generator)
        done_B |= _record(completions, rows_B, done_B, next_B, logprob_B, end_id)
        if bool(done_B.all()):
            break
        tokens_BL, positions_BL = next_B[:, None], positions_BL[:, -1:] + 1
        if int(done_B.sum()) * 4 >= len(done_B):
            kept = (~done_B).nonzero().squeeze(1)
            cache.keep(kept.to(device))
            tokens_BL, positions_BL = tokens_BL[kept], positions_BL[kept]
            rows_B, done_B = rows_B[kept], done_B[kept]
    return completions


def _room(config: ModelConfig, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> int:
    """How many tokens may be added so that the longest prompt still fits the context."""
    if not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("generation needs at least one prompt and at least one token in each")
    longest = max(len(prompt) for prompt in prompts)
    room = config.max_position_embeddings - longest
    if room < 1:
        raise ValueError(f"a prompt of {longest} tokens fills the context of {config.max_position_embeddings}")
    return min(max_new_tokens, room)


def _record(
    completions: list[Completion], rows_B: Tensor, done_B: Tensor, next_B: Tensor, logprob_B: Tensor, end_id: int
) -> Tensor:
    """Append one step to the open completions; returns which rows ended with it."""
    ended_B = (next_B == end_id).cpu()
    steps = zip(rows_B.tolist(), done_B.tolist(), next_B.tolist(), logprob_B.tolist(), ended_B.tolist(), strict=True)
    for row, done, token, logprob, ended in steps:
        if not done:
            completions[row].tokens.append(token)
            completions[row].logprobs.append(logprob)
            completions[row].finished = ended
    return ended_B

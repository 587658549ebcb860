"""The requests an engine is answering, and what a step adds to their answers. Shapes: N requests, V vocabulary."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import Tensor

from serving.engine_protocol import Emit
from serving.prompt_reader import MeanPool, PromptLogprobs
from serving.request import Delta, Embedding, Event, Failure, FinishReason, Request, TokenLogprob
from serving.sampling import Sampler, sample, top_logprobs
from serving.scheduler import Sequence
from serving.text_stream import TextStream


@dataclass(eq=False)
class Live:
    """A request that is being answered. `arrival`: when it came, until its first step."""

    request: Request
    emit: Emit
    sequence: Sequence
    text: TextStream
    sampler: Sampler
    reader: PromptLogprobs | MeanPool | None
    arrival: float | None

    @property
    def writes(self) -> bool:
        """Whether it wants tokens; otherwise it ends with its prompt."""
        return self.request.params.max_tokens > 0 and not self.request.embed


def advance(lives: Items[Live], logits_NV: Tensor, end_id: int) -> list[Event]:
    """The next token of each, sampled and appended, as events; of those that want none, what they want instead."""
    writing = [row for row, live in enumerate(lives) if live.writes]
    if len(writing) == len(lives):
        return _write(lives, logits_NV, end_id)
    rows_R = torch.tensor(writing, dtype=torch.long, device=logits_NV.device)
    written = iter(_write([lives[row] for row in writing], logits_NV[rows_R], end_id))
    return [next(written) if live.writes else _of_prompt(live) for live in lives]


def _write(lives: Items[Live], logits_NV: Tensor, end_id: int) -> list[Event]:
    tokens = sample(logits_NV, [live.sampler for live in lives])
    logprobs = _logprobs(lives, logits_NV, tokens)
    drawn = enumerate(zip(lives, tokens, strict=True))
    return [_append(live, token, logprobs.get(row, ()), end_id) for row, (live, token) in drawn]


def _append(live: Live, token: int, logprobs: tuple[TokenLogprob, ...], end_id: int) -> Event:
    matcher = live.sampler.matcher
    live.sampler.took(token)
    if matcher is not None and matcher.is_error():
        return Failure("the grammar of this answer has become too complex; simplify the schema or expression")
    live.sequence.tokens.append(token)
    text, reason = _show(live, token, end_id)
    return Delta(text, (token,), reason, logprobs, _prompt_logprobs(live))


def _show(live: Live, token: int, end_id: int) -> tuple[str, FinishReason | None]:
    """The text a token adds, and why the answer ends with it, if it does."""
    params = live.request.params
    ended = token == end_id and not params.ignore_end
    full = len(live.sequence.tokens) - len(live.request.prompt) >= params.max_tokens
    text = "" if ended else live.text.push(token)
    if (ended or full) and not live.text.stopped:
        text += live.text.flush()
    if ended or live.text.stopped:
        return text, "stop"
    return text, "length" if full else None


def _of_prompt(live: Live) -> Event:
    if isinstance(live.reader, MeanPool):
        return Embedding(live.reader.vector())
    return Delta("", (), "length", prompt_logprobs=_prompt_logprobs(live))


def _prompt_logprobs(live: Live) -> tuple[TokenLogprob, ...]:
    return live.reader.take() if isinstance(live.reader, PromptLogprobs) else ()


def _logprobs(lives: Items[Live], logits_NV: Tensor, tokens: Items[int]) -> dict[int, tuple[TokenLogprob, ...]]:
    """By row, of those that ask for them."""
    counts = {row: n for row, live in enumerate(lives) if (n := live.request.params.logprobs) is not None}
    if not counts:
        return {}
    rows_R = torch.tensor(list(counts), device=logits_NV.device)
    found = top_logprobs(logits_NV[rows_R], [tokens[row] for row in counts], list(counts.values()))
    return {row: (entry,) for row, entry in zip(counts, found, strict=True)}

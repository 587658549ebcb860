"""What is read off a prompt's hidden states while they are computed, chunk by chunk.

Shapes: L tokens of a chunk, which begins at token `start`, D hidden size, V vocabulary. A sequence that lost its
blocks begins again at 0.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from serving.request import Request, TokenLogprob
from serving.sampling import top_logprobs

ROWS = 64  # scored at a time: a row of scores is as long as the vocabulary
Logits = Callable[[Tensor], Tensor]  # hidden states [L, D] -> scores [L, V]


class PromptLogprobs:
    """How probable each token of a prompt was after those before it."""

    def __init__(self, prompt: Sequence[int], count: int, logits: Logits) -> None:
        self._prompt, self._count, self._logits = prompt, count, logits
        self._found: list[TokenLogprob] = []

    def read(self, start: int, hidden_LD: Tensor) -> None:
        del self._found[start:]
        followers = self._prompt[start + 1 : start + 1 + len(hidden_LD)]
        for first in range(0, len(followers), ROWS):
            tokens = followers[first : first + ROWS]
            logits_LV = self._logits(hidden_LD[first : first + len(tokens)])
            self._found += top_logprobs(logits_LV, tokens, [self._count] * len(tokens))

    def take(self) -> tuple[TokenLogprob, ...]:
        """Of all tokens but the first, once; afterwards there is nothing to read any more."""
        found, self._found, self._prompt = self._found, [], ()
        return tuple(found)


class MeanPool:
    """The mean of a prompt's hidden states, behind the last norm, scaled to length 1."""

    def __init__(self) -> None:
        self._sum_D: Tensor | None = None

    def read(self, start: int, hidden_LD: Tensor) -> None:
        sum_D = hidden_LD.float().sum(dim=0)
        self._sum_D = sum_D if start == 0 or self._sum_D is None else self._sum_D + sum_D

    def vector(self) -> tuple[float, ...]:
        assert self._sum_D is not None, "a prompt has at least one token"
        # The direction of the mean is that of the sum.
        return tuple(torch.nn.functional.normalize(self._sum_D, dim=0).tolist())


def reader_for(request: Request, logits: Logits) -> PromptLogprobs | MeanPool | None:
    """What reads this request's prompt, if anything is to."""
    if request.embed:
        return MeanPool()
    if request.params.prompt_logprobs is not None:
        return PromptLogprobs(request.prompt, request.params.prompt_logprobs, logits)
    return None

"""Scores -> tokens. One random number a token, drawn from the request's own generator, so that a seed gives the same
answer whatever else is in the batch. Shapes: N rows, V vocabulary."""

import random
from collections.abc import Sequence as Items
from typing import NamedTuple

import torch
from torch import Tensor

from serving.request import SamplingParams


class Sampler(NamedTuple):
    """How one row is sampled: the request's parameters and its generator."""

    params: SamplingParams
    generator: random.Random


def sample(logits_NV: Tensor, samplers: Items[Sampler]) -> list[int]:
    """One token a row; temperature 0 takes the best."""
    tokens_N = logits_NV.argmax(dim=-1)
    drawn = [row for row, sampler in enumerate(samplers) if sampler.params.temperature > 0]
    if drawn:
        rows = torch.tensor(drawn, device=logits_NV.device)
        tokens_N[rows] = _draw(logits_NV[rows], [samplers[row] for row in drawn])
    return [int(token) for token in tokens_N.tolist()]


def _draw(logits_NV: Tensor, samplers: Items[Sampler]) -> Tensor:
    """Invert the distribution function over tokens sorted by probability, cut off by top_k and top_p."""

    def column(values: Items[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=logits_NV.device).unsqueeze(1)

    params = [sampler.params for sampler in samplers]
    scaled_NV = logits_NV.double() / column([p.temperature for p in params])
    probabilities_NV, order_NV = scaled_NV.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before_NV = probabilities_NV.cumsum(dim=-1) - probabilities_NV
    rank_V = torch.arange(logits_NV.shape[1], device=logits_NV.device)
    # top_p keeps the smallest set that reaches p; rank 0 is always kept, however small p is.
    kept_NV = (before_NV < column([p.top_p for p in params])) | (rank_V == 0)
    kept_NV &= rank_V < column([p.top_k or logits_NV.shape[1] for p in params])
    kept_NV &= probabilities_NV > 0
    cumulative_NV = (probabilities_NV * kept_NV).cumsum(dim=-1)
    threshold_N1 = column([sampler.generator.random() for sampler in samplers]) * cumulative_NV[:, -1:]
    last_N1 = kept_NV.sum(dim=-1, keepdim=True) - 1
    chosen_N1 = torch.searchsorted(cumulative_NV, threshold_N1, right=True).minimum(last_N1)
    return order_NV.gather(1, chosen_N1).squeeze(1)


def top_logprobs(logits_V: Tensor, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """Log-probability of `token` under the network itself (temperature 1), and the `count` best, best first."""
    logprobs_V = logits_V.log_softmax(dim=-1)
    best = logprobs_V.topk(count)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return float(logprobs_V[token]), [(int(index), float(value)) for index, value in pairs]

"""Scores -> tokens. One random number a token, drawn from the request's own generator, so that a seed gives the same
answer whatever else is in the batch.

In this order, each part only for the rows that ask for it: logit bias, repetition penalty, presence and frequency
penalties, grammar, temperature, min_p, top_k, top_p. Each of the last three renormalises what the one before it left.
Shapes: N rows, V vocabulary, C candidates (the best tokens of a row, best first), B biases, W words of 32 bits.
"""

import random
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import torch
from llguidance import LLMatcher
from torch import Tensor

from serving.request import SamplingParams, TokenLogprob

GREEDY_BELOW = 1e-5  # a temperature under it: scores divided by it would exceed what a distribution can tell apart
# As many are looked at before a whole row is sorted: what top_p, top_k and min_p keep is nearly always among them.
CANDIDATES = 256
PROMPT = 1 << 24  # stands for a token of the prompt in `Sampler.seen_V`; answers are shorter
WORD = 32


@dataclass(eq=False)
class Sampler:
    """How one row is sampled, and what of its answer so far that depends on.

    Attributes:
        seen_V: how often each token is in the answer, plus `PROMPT` where it is in the prompt; only with penalties.
        matcher: follows the answer through its grammar.
    """

    params: SamplingParams
    generator: random.Random
    seen_V: Tensor | None = None
    matcher: LLMatcher | None = None
    greedy: bool = field(init=False)
    reshapes: bool = field(init=False)

    def __post_init__(self) -> None:
        self.greedy = self.params.temperature < GREEDY_BELOW
        self.reshapes = bool(self.params.logit_bias) or self.seen_V is not None or self.matcher is not None

    def took(self, token: int) -> None:
        """The answer has grown by `token`."""
        if self.seen_V is not None:
            self.seen_V[token] += 1
        if self.matcher is not None:
            self.matcher.consume_token(token)


def new_sampler(
    params: SamplingParams, prompt: Items[int], vocab_size: int, device: torch.device, matcher: LLMatcher | None = None
) -> Sampler:
    """The sampler of a request that begins."""
    seen_V = None
    if params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1:
        seen_V = torch.zeros(vocab_size, dtype=torch.int32, device=device)
        seen_V[torch.tensor(prompt, dtype=torch.long, device=device)] = PROMPT
    return Sampler(params, random.Random(params.seed), seen_V, matcher)


def sample(logits_NV: Tensor, samplers: Items[Sampler]) -> list[int]:
    """One token a row; temperature 0 takes the best. Scores are left as they are."""
    reshaped = [row for row, sampler in enumerate(samplers) if sampler.reshapes]
    if reshaped:
        rows_R = torch.tensor(reshaped, device=logits_NV.device)
        changed_RV = _reshape(logits_NV[rows_R], [samplers[row] for row in reshaped])
        logits_NV = logits_NV.index_copy(0, rows_R, changed_RV)
    tokens_N = logits_NV.argmax(dim=-1)
    drawn = [row for row, sampler in enumerate(samplers) if not sampler.greedy]
    if drawn:
        rows_R = torch.tensor(drawn, device=logits_NV.device)
        tokens_N[rows_R] = _draw(logits_NV[rows_R], [samplers[row] for row in drawn])
    tokens: list[int] = tokens_N.tolist()
    return tokens


# -- scores ----------------------------------------------------------------------------------------------------------


def _reshape(logits_NV: Tensor, samplers: Items[Sampler]) -> Tensor:
    """Scores under each row's bias, penalties and grammar."""
    params = [sampler.params for sampler in samplers]
    biases = [(row, *bias) for row, p in enumerate(params) for bias in p.logit_bias]
    if biases:
        logits_NV = add_bias(logits_NV, biases)
    penalised = [row for row, sampler in enumerate(samplers) if sampler.seen_V is not None]
    if penalised:
        rows_R = torch.tensor(penalised, device=logits_NV.device)
        seen_RV = torch.stack([seen for sampler in samplers if (seen := sampler.seen_V) is not None])
        changed_RV = penalise(logits_NV[rows_R], seen_RV, [params[row] for row in penalised])
        logits_NV = logits_NV.index_copy(0, rows_R, changed_RV)
    guided = [row for row, sampler in enumerate(samplers) if sampler.matcher is not None]
    if guided:
        rows_R = torch.tensor(guided, device=logits_NV.device)
        masks_RW = _grammar_masks([m for sampler in samplers if (m := sampler.matcher) is not None], logits_NV.shape[1])
        allowed_RV = mask_scores(logits_NV[rows_R], masks_RW.to(logits_NV.device))
        logits_NV = logits_NV.index_copy(0, rows_R, allowed_RV)
    return logits_NV


def add_bias(logits_NV: Tensor, biases: Items[tuple[int, int, float]]) -> Tensor:
    """Scores plus each (row, token, value)."""
    rows, tokens, values = zip(*biases, strict=True)
    index = (torch.tensor(rows, device=logits_NV.device), torch.tensor(tokens, device=logits_NV.device))
    return logits_NV.index_put(index, torch.tensor(values, device=logits_NV.device), accumulate=True)


def penalise(logits_NV: Tensor, seen_NV: Tensor, params: Items[SamplingParams]) -> Tensor:
    """Scores of tokens that occurred, made smaller.

    Repetition, for what is in prompt or answer: l / r where l > 0, else l · r (Keskar et al. 2019, CTRL, eq. 4, as
    implementations read it). Then, for what is in the answer c times: l - frequency · c - presence · [c > 0] (OpenAI's
    API reference).

    Args:
        seen_NV: c, plus PROMPT for the tokens of the prompt.
    """
    r_N1, presence_N1, frequency_N1 = (
        _column([float(value) for value in values], logits_NV)
        for values in zip(
            *((p.repetition_penalty, p.presence_penalty, p.frequency_penalty) for p in params), strict=True
        )
    )
    count_NV = seen_NV & (PROMPT - 1)
    repeated_NV = torch.where(logits_NV > 0, logits_NV / r_N1, logits_NV * r_N1)
    logits_NV = torch.where(seen_NV > 0, repeated_NV, logits_NV)
    return logits_NV - frequency_N1 * count_NV - presence_N1 * (count_NV > 0)


def mask_scores(logits_NV: Tensor, masks_NW: Tensor) -> Tensor:
    """-inf where a token's bit is not set; bit i of word w (int32) is token 32 w + i."""
    bits = torch.arange(WORD, dtype=torch.int32, device=masks_NW.device)
    allowed_NV = ((masks_NW.unsqueeze(2) >> bits) & 1).flatten(1)[:, : logits_NV.shape[1]].bool()
    return logits_NV.masked_fill(~allowed_NV, -torch.inf)


def _grammar_masks(matchers: Items[LLMatcher], vocab_size: int) -> Tensor:
    masks_NW = torch.zeros(len(matchers), -(-vocab_size // WORD), dtype=torch.int32)
    for mask_W, matcher in zip(masks_NW, matchers, strict=True):
        matcher.unsafe_compute_mask_ptr(mask_W.data_ptr(), mask_W.nbytes)
    return masks_NW


def _column(values: Items[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)


# -- draws -----------------------------------------------------------------------------------------------------------


def _draw(logits_NV: Tensor, samplers: Items[Sampler]) -> Tensor:
    """A token a row from its distribution, by inverting the distribution function at one random number."""
    params = [sampler.params for sampler in samplers]
    numbers_N1 = _column([sampler.generator.random() for sampler in samplers], logits_NV)
    scores_NV = logits_NV / _column([p.temperature for p in params], logits_NV)
    tokens_N = torch.empty(len(params), dtype=torch.long, device=logits_NV.device)
    cut = [row for row, p in enumerate(params) if p.top_p < 1 or p.top_k or p.min_p]
    whole = [row for row in range(len(params)) if row not in set(cut)]
    if whole:
        rows_R = torch.tensor(whole, device=logits_NV.device)
        tokens_N[rows_R] = _invert(scores_NV[rows_R].softmax(dim=-1), numbers_N1[rows_R])
    if cut:
        rows_R = torch.tensor(cut, device=logits_NV.device)
        tokens_N[rows_R] = _draw_cut(scores_NV[rows_R], numbers_N1[rows_R], [params[row] for row in cut])
    return tokens_N


def _draw_cut(scores_NV: Tensor, numbers_N1: Tensor, params: Items[SamplingParams]) -> Tensor:
    """Of the best few where what is kept lies among them, else of the whole row: for each row by itself, so that its
    token does not depend on the others."""
    V = scores_NV.shape[1]
    best = scores_NV.topk(min(CANDIDATES, V))
    kept_NC, is_whole_N = cut_off(best.values, scores_NV.logsumexp(dim=-1, keepdim=True), params)
    tokens_N = best.indices.gather(1, _invert(kept_NC, numbers_N1).unsqueeze(1)).squeeze(1)
    missing = [] if V <= CANDIDATES else is_whole_N.logical_not().nonzero().flatten().tolist()
    if missing:
        rows_R = torch.tensor(missing, device=scores_NV.device)
        sorted_RV, order_RV = scores_NV[rows_R].sort(dim=-1, descending=True, stable=True)
        normaliser_R1 = sorted_RV.logsumexp(dim=-1, keepdim=True)
        kept_RV, _ = cut_off(sorted_RV, normaliser_R1, [params[row] for row in missing])
        tokens_N[rows_R] = order_RV.gather(1, _invert(kept_RV, numbers_N1[rows_R]).unsqueeze(1)).squeeze(1)
    return tokens_N


def cut_off(scores_NC: Tensor, normaliser_N1: Tensor, params: Items[SamplingParams]) -> tuple[Tensor, Tensor]:
    """Probabilities of the candidates that min_p, top_k and top_p keep, 0 for the others; not renormalised.

    min_p keeps what has at least that share of the best token's probability (Nguyen et al. 2024); top_k the k best of
    them; top_p the fewest of those, best first, that hold p of their probability (Holtzman et al. 2020). The best
    token is always kept.

    Args:
        normaliser_N1: log of the sum of exp(score) over the whole row.

    Returns: and [N]: whether what is kept certainly lies among the candidates.
    """
    probabilities_NC = (scores_NC - normaliser_N1).exp()
    rank_C = torch.arange(scores_NC.shape[1], device=scores_NC.device)
    min_p_N1, top_p_N1 = (
        _column(column, scores_NC) for column in ([p.min_p for p in params], [p.top_p for p in params])
    )
    top_k_N1 = _column([p.top_k or torch.inf for p in params], scores_NC)
    eligible_NC = (rank_C < top_k_N1) & (probabilities_NC >= min_p_N1 * probabilities_NC[:, :1])
    masked_NC = probabilities_NC * eligible_NC
    cumulative_NC = masked_NC.cumsum(dim=-1)
    unlimited_N1 = (min_p_N1 == 0) & torch.isinf(top_k_N1)
    mass_N1 = cumulative_NC[:, -1:].masked_fill(unlimited_N1, 1.0)
    kept_NC = (cumulative_NC - masked_NC < top_p_N1 * mass_N1) | (rank_C == 0)
    ends_inside_N = ~eligible_NC[:, -1]
    reaches_p_N = (unlimited_N1 & (cumulative_NC[:, -1:] >= top_p_N1)).squeeze(1)
    return masked_NC * kept_NC, ends_inside_N | reaches_p_N


def _invert(weights_NC: Tensor, numbers_N1: Tensor) -> Tensor:
    """Index of each row's weight into which its number in [0, 1) falls; never one of weight 0."""
    cumulative_NC = weights_NC.cumsum(dim=-1)
    total_N1 = cumulative_NC[:, -1:].contiguous()
    below_N1 = torch.nextafter(total_N1, torch.zeros_like(total_N1))
    threshold_N1 = (numbers_N1 * total_N1).minimum(below_N1)
    return torch.searchsorted(cumulative_NC, threshold_N1, right=True).squeeze(1)


# -- reports ---------------------------------------------------------------------------------------------------------


def top_logprobs(logits_NV: Tensor, tokens: Items[int], counts: Items[int]) -> list[TokenLogprob]:
    """Of each row's token and its `counts` best, under the network itself: temperature 1, nothing cut off."""
    logprobs_NV = logits_NV.log_softmax(dim=-1)
    chosen = logprobs_NV.gather(1, torch.tensor(tokens, device=logits_NV.device).unsqueeze(1)).squeeze(1).tolist()
    best = logprobs_NV.topk(min(max(counts), logits_NV.shape[1]))
    rows = zip(tokens, chosen, best.indices.tolist(), best.values.tolist(), counts, strict=True)
    return [
        TokenLogprob(token, value, tuple(zip(ids[:count], values[:count], strict=True)))
        for token, value, ids, values, count in rows
    ]

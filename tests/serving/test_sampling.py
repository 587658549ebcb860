"""Sampling draws from the distribution it says, and a seed decides alone."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serving.request import SamplingParams
from serving.sampling import (
    CANDIDATES,
    PROMPT,
    Sampler,
    cut_off,
    mask_scores,
    new_sampler,
    penalise,
    sample,
    top_logprobs,
)

LOGITS_V = torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0])


def sampler(seed: int = 0, **params: Any) -> Sampler:
    return Sampler(SamplingParams(max_tokens=1, **params), random.Random(seed))


def drawn(count: int, **params: Any) -> Counter[int]:
    one = sampler(**params)
    return Counter(token for _ in range(count) for token in sample(LOGITS_V[None], [one]))


def test_temperature_zero_is_greedy() -> None:
    assert sample(LOGITS_V[None], [sampler(temperature=0)]) == [1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_the_softmax(temperature: float) -> None:
    counts = drawn(4_000, temperature=temperature)
    expected_V = (LOGITS_V / temperature).softmax(0)
    for token, probability in enumerate(expected_V.tolist()):
        # Four standard deviations of a binomial.
        assert abs(counts[token] / 4_000 - probability) <= 4 * (probability * (1 - probability) / 4_000) ** 0.5


def test_top_k_and_top_p_cut_off_the_tail() -> None:
    assert set(drawn(500, top_k=2)) == {1, 2}
    # softmax ≈ .086 .636 .234 …: 0.63 needs one token, 0.64 two.
    assert set(drawn(500, top_p=0.63)) == {1}
    assert set(drawn(500, top_p=0.64)) == {1, 2}
    assert set(drawn(500, top_p=1e-9)) == {1}


@given(st.integers(0, 2**31), st.integers(0, 5))
def test_a_seed_gives_the_same_token_in_any_batch(seed: int, others: int) -> None:
    alone = sample(LOGITS_V[None], [sampler(seed)])
    batch = [sampler(row + 99) for row in range(others)] + [sampler(seed), sampler(7, temperature=0)]
    tokens = sample(LOGITS_V.expand(len(batch), -1), batch)
    assert tokens[others] == alone[0]
    assert tokens[-1] == 1


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_stay_in_range(draw: float) -> None:
    class Fixed(random.Random):
        def random(self) -> float:
            return draw

    params = SamplingParams(max_tokens=1, top_k=3)
    (token,) = sample(LOGITS_V[None], [Sampler(params, Fixed())])
    assert token == (1 if draw == 0 else 0)


def test_logprobs_are_of_the_network_itself() -> None:
    one, other = top_logprobs(torch.stack([LOGITS_V, -LOGITS_V]), [2, 4], [2, 0])
    expected_V = LOGITS_V.log_softmax(0)
    assert one.logprob == pytest.approx(float(expected_V[2]))
    assert [token for token, _ in one.top] == [1, 2]
    assert [value for _, value in one.top] == pytest.approx(expected_V[1:3].tolist())
    assert other.logprob == pytest.approx(float((-LOGITS_V).log_softmax(0)[4]))
    assert other.top == ()


# -- against the obvious ---------------------------------------------------------------------------------------------


def slow_kept(scores: list[float], params: SamplingParams) -> list[float]:
    """Probabilities after min_p, top_k and top_p, one filter after the other over a list, each renormalised."""
    exponentials = [math.exp(score / params.temperature) for score in scores]
    kept = {token: e / sum(exponentials) for token, e in enumerate(exponentials)}
    best = max(kept.values())
    kept = {token: p for token, p in kept.items() if p >= params.min_p * best}
    order = sorted(kept, key=lambda token: -kept[token])[: params.top_k or None]
    total, cumulative, chosen = sum(kept[token] for token in order), 0.0, []
    for token in order:
        if chosen and cumulative >= params.top_p * total:
            break
        chosen.append(token)
        cumulative += kept[token]
    return [kept[token] if token in chosen else 0.0 for token in range(len(scores))]


@given(
    st.integers(2, 700),
    st.integers(0, 2**31),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.sampled_from([0, 1, 3, 300]),
    st.sampled_from([0.1, 0.5, 0.93, 0.999, 1.0]),
    st.sampled_from([0.0, 0.02, 0.4]),
)
def test_what_is_kept_equals_one_filter_after_the_other(
    size: int, seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    """Few candidates and the whole row alike: over the whole row's sum, and only where they say so are few enough."""
    params = SamplingParams(1, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    logits_V = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
    expected = slow_kept(logits_V.tolist(), params)
    sorted_V, order_V = (logits_V / temperature).sort(descending=True)
    for count in {min(CANDIDATES, size), size}:
        kept_NC, whole_N = cut_off(sorted_V[None, :count], sorted_V.logsumexp(0).view(1, 1), [params])
        if count == size or whole_N.item():
            found_V = torch.zeros(size, dtype=torch.float64)
            found_V[order_V[:count]] = kept_NC[0]
            # What lies within rounding of the border may fall on either side.
            differs = [token for token in range(size) if abs(found_V[token].item() - expected[token]) > 1e-12]
            assert len(differs) <= 1


def test_a_row_that_needs_more_than_the_candidates_is_sorted_whole() -> None:
    """A flat distribution of 1,000 tokens: top_p 0.9 keeps 900, in whatever batch."""
    flat = torch.zeros(1, 1_000)
    peaked = flat.clone()
    peaked[0, 5] = 30.0
    params = {"top_p": 0.9, "temperature": 1.0}
    alone = [sample(flat, [sampler(seed, **params)])[0] for seed in range(200)]
    crowded = [
        sample(torch.cat([peaked, flat]), [sampler(1, **params), sampler(seed, **params)]) for seed in range(200)
    ]
    assert [pair[1] for pair in crowded] == alone
    assert {pair[0] for pair in crowded} == {5}
    assert max(alone) > CANDIDATES
    assert max(alone) < 900, "of equals the first are kept"


def slow_penalised(scores: list[float], prompt: list[int], answer: list[int], p: SamplingParams) -> list[float]:
    """Token by token."""
    result = []
    for token, score in enumerate(scores):
        score += sum(value for biased, value in p.logit_bias if biased == token)
        if token in prompt or token in answer:
            score = score / p.repetition_penalty if score > 0 else score * p.repetition_penalty
        score -= p.frequency_penalty * answer.count(token)
        score -= p.presence_penalty * (token in answer)
        result.append(score)
    return result


tokens = st.lists(st.integers(0, 8), max_size=12)
penalties = st.sampled_from([-2.0, -0.3, 0.0, 0.7, 2.0])
biases = st.dictionaries(st.integers(0, 8), st.floats(-100, 100), max_size=3).map(lambda bias: tuple(bias.items()))
rows = st.tuples(tokens, tokens, penalties, penalties, st.sampled_from([0.5, 1.0, 1.8]), biases)


@given(st.lists(rows, min_size=1, max_size=4), st.integers(0, 2**31))
def test_bias_and_penalties_of_a_batch_equal_those_of_one_token_after_the_other(
    requests: list[tuple[list[int], list[int], float, float, float, tuple[tuple[int, float], ...]]], seed: int
) -> None:
    """The greedy token of every row is the best under the slow scores, and the batch's scores stay as they were."""
    logits_NV = torch.randn(len(requests), 9, generator=torch.Generator().manual_seed(seed)) * 3
    before, samplers, expected = logits_NV.clone(), [], []
    for logits_V, (prompt, answer, presence, frequency, repetition, bias) in zip(logits_NV, requests, strict=True):
        params = SamplingParams(
            1, temperature=0, presence_penalty=presence, frequency_penalty=frequency, repetition_penalty=repetition,
            logit_bias=bias,
        )  # fmt: skip
        one = new_sampler(params, prompt, 9, torch.device("cpu"))
        for token in answer:
            one.took(token)
        samplers.append(one)
        expected.append(slow_penalised(logits_V.tolist(), prompt, answer, params))
    for token, scores in zip(sample(logits_NV, samplers), expected, strict=True):
        assert scores[token] == pytest.approx(max(scores), abs=1e-4)
    assert torch.equal(logits_NV, before)


def test_penalties_are_exact() -> None:
    params = SamplingParams(1, presence_penalty=0.5, frequency_penalty=0.25, repetition_penalty=2.0)
    seen_NV = torch.tensor([[PROMPT, 2, 0, PROMPT + 1, 1]])
    found = penalise(LOGITS_V[None], seen_NV, [params])[0].tolist()
    assert found == pytest.approx(slow_penalised(LOGITS_V.tolist(), [0, 3], [1, 1, 3, 4], params))


@given(st.lists(st.booleans(), min_size=1, max_size=100))
def test_a_mask_lets_through_the_tokens_whose_bits_are_set(allowed: list[bool]) -> None:
    words = [0] * -(-len(allowed) // 32)
    for token, bit in enumerate(allowed):
        words[token // 32] |= bit << token % 32
    masks_NW = torch.tensor([[word - 2**32 if word >= 2**31 else word for word in words]], dtype=torch.int32)
    masked = mask_scores(torch.ones(1, len(allowed)), masks_NW)[0]
    assert masked.isfinite().tolist() == allowed


def test_min_p_cuts_off_what_is_improbable_beside_the_best() -> None:
    # Beside the best, softmax gives 1, .37, .14, .05, .02.
    assert set(drawn(500, min_p=0.3)) == {1, 2}
    assert set(drawn(500, min_p=1.0)) == {1}

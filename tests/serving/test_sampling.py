"""Sampling draws from the distribution it says, and a seed decides alone."""

import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serving.request import SamplingParams
from serving.sampling import Sampler, sample, top_logprobs

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
    logprob, top = top_logprobs(LOGITS_V, 2, 2)
    expected_V = LOGITS_V.log_softmax(0)
    assert logprob == pytest.approx(float(expected_V[2]))
    assert [token for token, _ in top] == [1, 2]
    assert [value for _, value in top] == pytest.approx(expected_V[1:3].tolist())

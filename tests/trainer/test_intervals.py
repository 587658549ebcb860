"""Intervals against published values and slow resampling."""

import numpy as np
import pytest

from trainer.intervals import paired_difference, ratio_of_sums, wilson


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29
    for successes, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(successes, n) == pytest.approx((successes / n, low, high), abs=1e-4)
    with pytest.raises(ValueError, match="no observations"):
        wilson(0, 0)


def test_paired_difference_is_the_bootstrap_over_items() -> None:
    rng = np.random.default_rng(1)
    before = rng.random(300) < 0.5
    after = before ^ (rng.random(300) < 0.2)
    found = paired_difference(after.tolist(), before.tolist())
    differences = after.astype(int) - before.astype(int)
    resampled = [rng.choice(differences, 300).mean() for _ in range(4000)]
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(resampled, [0.025, 0.975])), abs=0.008)


def test_pairing_narrows_the_interval() -> None:
    before = [i % 2 == 0 for i in range(200)]
    after = [value or i % 20 == 1 for i, value in enumerate(before)]
    found = paired_difference(after, before)
    assert found.mean == pytest.approx(0.05)
    assert found.low > 0
    assert paired_difference(before, before) == (0, 0, 0)
    with pytest.raises(ValueError, match="same items"):
        paired_difference([], [])


def test_mean_per_token_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered, rounds = np.random.default_rng(0), 0, 400
    for _ in range(rounds):
        level, counts = rng.normal(1.0, 0.3, 60), rng.integers(5, 40, 60)
        found = ratio_of_sums((level * counts).tolist(), counts.tolist())
        covered += found.low <= 1.0 <= found.high
    assert 0.9 <= covered / rounds <= 0.98
    with pytest.raises(ValueError, match="two texts"):
        ratio_of_sums([1.0], [3])

"""Confidence intervals of what the stages measure; every one is at 95 %."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution
RESAMPLES = 10_000


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Interval:
    """Score interval of a share (Wilson 1927); unlike mean ± z·se it stays in [0, 1] and is right near the ends.

    Raises:
        ValueError: there is nothing to take a share of.
    """
    if n == 0:
        raise ValueError("no observations: a share needs at least one")
    share, z2 = successes / n, Z95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def paired_difference(after: Sequence[bool], before: Sequence[bool], seed: int = 0) -> Interval:
    """Mean of after - before over the same items, with the percentile bootstrap over items (Efron 1979).

    A difference is -1, 0 or 1, so resampling n items is one draw of three multinomial counts.

    Raises:
        ValueError: there are no items.
    """
    if len(after) != len(before) or not after:
        raise ValueError(f"a paired difference needs the same items twice, not {len(after)} and {len(before)}")
    differences = np.asarray(after, dtype=np.int64) - np.asarray(before, dtype=np.int64)
    n = len(differences)
    shares = [float(np.mean(differences == value)) for value in (-1, 0, 1)]
    counts = np.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    low, high = np.quantile((counts[:, 2] - counts[:, 0]) / n, [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high))


def ratio_of_sums(sums: Sequence[float], counts: Sequence[int]) -> Interval:
    """sum(sums) / sum(counts), with a normal interval by the linearised ratio estimator (Cochran 1977, 6.4).

    For a mean per token over texts: tokens of one text are not independent, texts are.
    """
    x, n = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if len(x) < 2 or n.sum() <= 0:
        raise ValueError("a mean per token needs at least two texts with tokens")
    mean = x.sum() / n.sum()
    residuals = x - mean * n
    error = math.sqrt(len(x) / (len(x) - 1) * float((residuals**2).sum())) / n.sum()
    return Interval(float(mean), float(mean - Z95 * error), float(mean + Z95 * error))

"""Mean over seeds with Student's t interval: few seeds, unknown variance."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import mpmath


class Interval(NamedTuple):
    mean: float
    low: float
    high: float


def t_quantile(share: float, degrees: int) -> float:
    """t with P(|T| ≤ t) = share: P(|T| > t) = I_x(ν/2, 1/2) at x = ν/(ν+t²), the incomplete beta function."""

    def excess(x: float) -> float:
        return float(mpmath.betainc(degrees / 2, 0.5, 0, x, regularized=True) - (1 - share))

    x = float(mpmath.findroot(excess, (0.0, 1.0), solver="bisect", tol=1e-28, maxsteps=200, verify=False))
    return math.sqrt(degrees * (1 - x) / x)


def t_interval(values: Sequence[float], share: float = 0.95) -> Interval:
    """Mean and two-sided interval.

    Raises:
        ValueError: fewer than two values have no spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least two values, not {len(values)}")
    mean = statistics.fmean(values)
    half = t_quantile(share, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)

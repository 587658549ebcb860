"""Counts of observed values, small enough to be sent from an engine's process with every step."""

from bisect import bisect_left
from dataclasses import dataclass

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Counts:
    """`counts`: values up to each border that are above the one before; the last one, values above all borders."""

    borders: tuple[float, ...]
    counts: tuple[int, ...]
    total: float  # of the values

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: each border with the number of values up to it."""
        sums, seen = [], 0
        for border, count in zip((*(str(float(border)) for border in self.borders), "+Inf"), self.counts, strict=True):
            seen += count
            sums.append((border, float(seen)))
        return sums


class Histogram:
    def __init__(self, borders: tuple[float, ...]) -> None:
        self._borders, self._counts, self._total = borders, [0] * (len(borders) + 1), 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._borders, value)] += 1
        self._total += value

    def counts(self) -> Counts:
        return Counts(self._borders, tuple(self._counts), self._total)


class StepHistograms:
    """What an engine observes of its steps: how long requests waited for their first, how many ran in each, and the
    share of KV blocks in use."""

    def __init__(self) -> None:
        self.queue_seconds, self.batch_size, self.kv_use = Histogram(SECONDS), Histogram(SIZES), Histogram(SHARES)

    def counts(self) -> dict[str, Counts]:
        return {name: histogram.counts() for name, histogram in vars(self).items()}

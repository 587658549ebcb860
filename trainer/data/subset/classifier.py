"""A linear classifier of texts: logistic regression over hashed words and pairs of words, small and deterministic."""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.knowledge.words import terms

_BUCKETS = 2**18
_READ = 8_000  # characters of a text that are looked at
_PAIR = np.uint32(0x9E3779B1)  # an odd multiplier, so that (a, b) and (b, a) differ
EPOCHS, RATE, DECAY = 6, 0.5, 1e-7


class Features(NamedTuple):
    """A text as a sparse vector of length 1: 1 + ln(count) by bucket, normalised."""

    buckets: NDArray[np.int64]
    values: NDArray[np.float64]


def features(text: str) -> Features:
    hashes = np.asarray([_word_hash(word) for word in terms(text[:_READ])], dtype=np.uint32)
    pairs = hashes[:-1] * _PAIR ^ hashes[1:]
    buckets, counts = np.unique(np.concatenate([hashes, pairs]).astype(np.int64) % _BUCKETS, return_counts=True)
    values = 1 + np.log(counts)
    return Features(buckets, values / max(1.0, float(np.linalg.norm(values))))


@lru_cache(maxsize=2**18)
def _word_hash(word: str) -> int:
    return zlib.crc32(word.encode())


class LinearClassifier:
    """p(text) = 1 / (1 + exp(-(w x + b))), x the text's features."""

    def __init__(self, weights: NDArray[np.float64], bias: float) -> None:
        self._weights, self._bias = weights, bias

    def probability(self, text: str) -> float:
        x = features(text)
        return _logistic(float(self._weights[x.buckets] @ x.values) + self._bias)


def train(texts: Sequence[str], labels: Sequence[bool], seed: int = 0) -> LinearClassifier:
    """Minimise the log loss with AdaGrad (Duchi et al. 2011), example by example in a seeded order.

    Raises:
        ValueError: all examples have the same label.
    """
    if len(set(labels)) < 2:
        raise ValueError("a classifier needs examples of both kinds: some that belong to the domain, some that do not")
    rows = [features(text) for text in texts]
    weights, squares = np.zeros(_BUCKETS), np.full(_BUCKETS, 1e-8)
    bias, bias_square = 0.0, 1e-8
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        for number in rng.permutation(len(rows)):
            at, values = rows[number]
            error = _logistic(float(weights[at] @ values) + bias) - labels[number]
            gradient = error * values + DECAY * weights[at]
            squares[at] += gradient**2
            weights[at] -= RATE * gradient / np.sqrt(squares[at])
            bias_square += error**2
            bias -= RATE * error / bias_square**0.5
    return LinearClassifier(weights, bias)


def _logistic(x: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(x, -60, 60))))

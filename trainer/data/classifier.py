"""A linear classifier of text over hashed words, pairs of words and runs of four characters: small, quick to train on
one core, the same for the same rows.

Legend: F features (buckets of hashes), L labels, R rows, K features of all rows together, N windows of a text.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from trainer.data.hashing import GOLDEN, Hashes, mix, ngram_hashes
from trainer.data.words import Places, code_points, find_words

Floats = NDArray[np.float32]

_BITS = 18
_CHARACTERS = 4
_WINDOW = 400  # characters: a paragraph
_BLOCK = 256 * _WINDOW  # characters whose features are held at once
_STEPS, _RATE, _DECAY = 60, 0.05, 3e-5  # of Adam over all rows


@dataclass(frozen=True)
class LinearClassifier:
    """p = softmax(b + sum of the weights of a passage's n features / sqrt(n))."""

    labels: tuple[str, ...]
    weights_FL: Floats
    bias_L: Floats

    def probabilities(self, text: str) -> Floats:
        """Of each label [N, L] for each 400 characters of the text; a text without any has one row."""
        blocks = [text[start : start + _BLOCK] for start in range(0, max(1, len(text)), _BLOCK)]
        return np.concatenate([self._block(block) for block in blocks])

    def _block(self, text: str) -> Floats:
        buckets, places = features(text)
        windows = places // _WINDOW
        count = max(1, -(-len(text) // _WINDOW))
        sizes_N = np.bincount(windows, minlength=count)
        sums = [np.bincount(windows, weights[buckets], minlength=count) for weights in self.weights_FL.T]
        return softmax(self.bias_L + np.stack(sums, axis=1) / np.sqrt(np.maximum(sizes_N, 1))[:, None])

    def save(self, path: Path) -> None:
        tensors = {"weights": self.weights_FL, "bias": self.bias_L}
        save_file(tensors, path, metadata={"labels": json.dumps(self.labels)})

    @classmethod
    def load(cls, path: Path) -> "LinearClassifier":
        """Raises: ValueError: the file is missing or no such classifier."""
        try:
            with safe_open(path, "numpy") as file:
                labels = tuple(json.loads(file.metadata()["labels"]))
                return cls(labels, file.get_tensor("weights"), file.get_tensor("bias"))
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no saved classifier ({error}); train one anew") from error


def train(texts: Sequence[str], labels: Sequence[str]) -> LinearClassifier:
    """Logistic regression on rows of which each is one passage, in the order given.

    The rarer a label, the more each of its rows counts, by the root of what would make all labels count alike.

    Raises:
        ValueError: the rows have less than two labels.
    """
    names = tuple(sorted(set(labels)))
    if len(names) < 2:
        raise ValueError(f"a classifier needs rows of two labels at least; these have {', '.join(names) or 'none'}")
    target_R = np.array([names.index(label) for label in labels])
    weight_R = (len(target_R) / np.bincount(target_R)[target_R]) ** 0.5
    found = [features(text)[0].astype(np.int32) for text in texts]
    sizes_R = np.array([max(1, len(buckets)) for buckets in found])
    # A row without features looks at bucket 0, whose weight it shares with some others.
    buckets_K = np.concatenate([buckets if len(buckets) else np.zeros(1, np.int32) for buckets in found])
    wanted_RL = np.eye(len(names), dtype=np.float32)[target_R]
    return LinearClassifier(names, *_fit(buckets_K, sizes_R, wanted_RL, weight_R / weight_R.sum()))


def _fit(
    buckets_K: NDArray[np.int32], sizes_R: Places, wanted_RL: Floats, weight_R: NDArray[np.float64]
) -> tuple[Floats, Floats]:
    """Adam (Kingma and Ba, arXiv:1412.6980) over all rows at once."""
    starts_R = np.cumsum(sizes_R) - sizes_R
    row_K = np.repeat(np.arange(len(sizes_R)), sizes_R)
    scale_R1 = (1 / np.sqrt(sizes_R))[:, None]
    bias_L = np.log(weight_R @ wanted_RL).astype(np.float32)
    weights_FL = np.zeros((2**_BITS, len(bias_L)), np.float32)
    mean_FL, square_FL = np.zeros_like(weights_FL), np.zeros_like(weights_FL)
    for step in range(1, _STEPS + 1):
        logits_RL = bias_L + scale_R1 * np.add.reduceat(weights_FL[buckets_K], starts_R, axis=0)
        error_RL = (softmax(logits_RL) - wanted_RL) * weight_R[:, None] * scale_R1
        columns = [np.bincount(buckets_K, error_R[row_K], minlength=2**_BITS) for error_R in error_RL.T]
        gradient_FL = np.stack(columns, axis=1).astype(np.float32) + np.float32(_DECAY) * weights_FL
        mean_FL += np.float32(0.1) * (gradient_FL - mean_FL)
        square_FL += np.float32(0.01) * (gradient_FL * gradient_FL - square_FL)
        corrected_FL = np.sqrt(square_FL / np.float32(1 - 0.99**step)) + np.float32(1e-10)
        weights_FL -= np.float32(_RATE / (1 - 0.9**step)) * mean_FL / corrected_FL
    return weights_FL, bias_L


def features(text: str) -> tuple[Places, Places]:
    """The buckets of a text's features and where each feature begins."""
    words, folded = find_words(text), code_points(text.lower())
    spelled = ngram_hashes(mix(folded * GOLDEN), _CHARACTERS)
    parts: list[tuple[Hashes, Places]] = [
        (words.hashes, words.starts),
        (ngram_hashes(words.hashes, 2), words.starts[:-1]),
        (spelled, np.arange(len(spelled))),
    ]
    buckets = np.concatenate([hashes for hashes, _ in parts]) >> np.uint64(64 - _BITS)
    return buckets.astype(np.int64), np.concatenate([places for _, places in parts])


def softmax(logits_NL: NDArray[np.float64]) -> Floats:
    exponentials_NL = np.exp(logits_NL - logits_NL.max(axis=1, keepdims=True))
    shares_NL: Floats = (exponentials_NL / exponentials_NL.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares_NL

"""What held-out pairs say of a reward model: is it right, is it as sure as it should be, does it count length.

Pure functions of d = score of the better answer - score of the other, one value a pair; ties are no part of them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


def calibration(differences: Sequence[float], bins: int = BINS) -> dict[str, Any]:
    """How often it is right among pairs that it is equally sure of, and the expected calibration error.

    It prefers one answer with confidence max(s, 1 - s), s = sigmoid(d), and is right where d > 0. Pairs fall into
    bins of equal width over [0.5, 1]; the error is sum_b n_b / n * |accuracy_b - confidence_b| (Guo et al. 2017, "On
    Calibration of Modern Neural Networks", eq. 3). Equal scores are half right.
    """
    d = np.asarray(differences, dtype=np.float64)
    confidence = 1 / (1 + np.exp(-np.abs(d)))
    right = (np.sign(d) + 1) / 2
    place = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    curve = [
        {"confidence": float(confidence[at].mean()), "accuracy": float(right[at].mean()), "n": int(at.sum())}
        for at in (place == number for number in range(bins))
        if at.any()
    ]
    error = sum(point["n"] * abs(point["accuracy"] - point["confidence"]) for point in curve) / max(len(d), 1)
    return {"curve": curve, "expected_error": error}


def length_bias(differences: Sequence[float], lengths: Sequence[int]) -> dict[str, float | int | None]:
    """Accuracy where the better answer is the longer, the shorter one, and the correlation of score with length.

    Args:
        lengths: characters of the better answer minus those of the other.

    The correlation is Pearson's, over both orders of every pair, so that it is of scores and lengths alone and not of
    which answer happens to be better; None where nothing varies. A model that counts length is near +1 or -1 and right
    on one side only.
    """
    d, longer = np.asarray(differences, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    return {
        "correlation": _uncentred_correlation(d, longer),
        "better_is_longer": int((longer > 0).sum()),
        "accuracy_longer": _accuracy(d[longer > 0]),
        "better_is_shorter": int((longer < 0).sum()),
        "accuracy_shorter": _accuracy(d[longer < 0]),
    }


def _uncentred_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    """sum x y / sqrt(sum x^2 sum y^2): Pearson's where every (x, y) also occurs as (-x, -y)."""
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size else None


def _accuracy(differences: NDArray[np.float64]) -> float | None:
    return float((np.sign(differences) + 1).mean() / 2) if len(differences) else None

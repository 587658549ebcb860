import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.alignment.reward_report import BINS, calibration, length_bias

DIFFERENCES = st.lists(st.floats(-8, 8), min_size=1, max_size=60)


@given(DIFFERENCES)
def test_the_curve_counts_every_pair_once_and_its_error_is_that_of_a_plain_loop(differences: list[float]) -> None:
    found = calibration(differences)
    bins: dict[int, list[tuple[float, float]]] = {}
    for d in differences:
        confidence = 1 / (1 + math.exp(-abs(d)))
        right = 1.0 if d > 0 else 0.0 if d < 0 else 0.5
        bins.setdefault(min(int((confidence - 0.5) * 2 * BINS), BINS - 1), []).append((confidence, right))
    expected = sum(abs(sum(c for c, _ in inside) - sum(r for _, r in inside)) for inside in bins.values())
    assert found["expected_error"] == pytest.approx(expected / len(differences), abs=1e-9)
    assert sum(point["n"] for point in found["curve"]) == len(differences)


def test_a_model_as_sure_as_it_is_right_has_no_error() -> None:
    sure = math.log(3)  # confidence 3/4
    assert calibration([sure, sure, sure, -sure])["expected_error"] == pytest.approx(0, abs=1e-12)
    assert calibration([5.0] * 3 + [-5.0])["expected_error"] == pytest.approx(1 / (1 + math.exp(-5)) - 0.75)


def test_a_model_that_counts_length_is_found_out() -> None:
    lengths = [10, -20, 30, -40]
    found = length_bias([0.1 * length for length in lengths], lengths)
    assert found["correlation"] == pytest.approx(1)
    assert (found["accuracy_longer"], found["accuracy_shorter"]) == (1, 0)
    blind = length_bias([1.0, 1.0, 1.0, 1.0], [10, -10, 10, -10])
    assert (blind["correlation"], blind["accuracy_longer"], blind["accuracy_shorter"]) == (0, 1, 1)


def test_where_nothing_varies_there_is_no_correlation() -> None:
    found = length_bias([1.0], [0])
    assert found["correlation"] is found["accuracy_longer"] is found["accuracy_shorter"] is None

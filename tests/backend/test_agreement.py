import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.preferences.agreement import cohens_kappa, krippendorffs_alpha, two_sided_p

VERDICTS = st.sampled_from(["a", "b", "tie"])


@pytest.mark.parametrize(("successes", "trials", "p"), [(0, 0, 1), (5, 10, 1), (10, 10, 2 / 1024), (1, 10, 22 / 1024)])
def test_the_binomial_test_counts_both_tails(successes: int, trials: int, p: float) -> None:
    assert two_sided_p(successes, trials) == pytest.approx(p)


def test_a_thousand_labels_are_no_problem() -> None:
    assert 0 < two_sided_p(700, 1200) < 1e-7
    assert two_sided_p(3000, 3000) == 0.0  # 2^-2999


def test_kappa_of_a_table_worked_out_by_hand() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
    table = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohens_kappa(table) == pytest.approx(0.4)
    assert cohens_kappa([("y", "y"), ("n", "n")]) == 1
    assert cohens_kappa([("y", "n"), ("n", "y")]) == -1
    assert cohens_kappa([]) is cohens_kappa([("y", "y")]) is None


def slow_alpha(units: dict[str, list[str]]) -> float | None:
    """The coincidence matrix, entry by entry."""
    coincidences: Counter[tuple[str, str]] = Counter()
    for said in units.values():
        for one, other in itertools.permutations(range(len(said)), 2):
            coincidences[said[one], said[other]] += 1 / (len(said) - 1)  # type: ignore[assignment]
    totals: Counter[str] = Counter()
    for (one, _), weight in coincidences.items():
        totals[one] += weight
    n = sum(totals.values())
    observed = sum(weight for (one, other), weight in coincidences.items() if one != other)
    expected = sum(totals[one] * totals[other] for one, other in itertools.permutations(totals, 2))
    return 1 - (n - 1) * observed / expected if expected else None


@given(st.dictionaries(st.sampled_from("uvwxyz"), st.lists(VERDICTS, min_size=2, max_size=4), max_size=6))
def test_alpha_is_that_of_the_coincidence_matrix(units: dict[str, list[str]]) -> None:
    expected = slow_alpha(units)
    assert krippendorffs_alpha(units) == (None if expected is None else pytest.approx(expected))


def test_alpha_is_one_for_agreement_and_a_lone_verdict_says_nothing() -> None:
    assert krippendorffs_alpha({"u": ["a", "a"], "v": ["b", "b", "b"], "w": ["a"]}) == 1
    assert krippendorffs_alpha({"u": ["a"], "v": ["b"]}) is None

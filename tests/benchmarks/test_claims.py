import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.claims import claim_03_dynamic_capacity as capacity
from benchmarks.claims import registry
from benchmarks.claims.__main__ import main
from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.interval import Interval, t_interval, t_quantile
from benchmarks.claims.runner import judge, keep, run


def loads(seed: int, skew: float) -> torch.Tensor:
    shares_E = torch.softmax(skew * torch.arange(8.0), dim=0)
    chosen = torch.multinomial(shares_E, 40 * 512, replacement=True, generator=torch.Generator().manual_seed(seed))
    return torch.stack([torch.bincount(part, minlength=8).float() for part in chosen.view(40, 512)])


def test_every_experiment_loads_under_its_number() -> None:
    assert registry.modules()
    for number in registry.modules():
        assert registry.load(number).number == number


def test_an_unknown_claim_lists_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--claim", "99"]) == 1
    assert "no experiment for claim 99 yet; there are experiments for: 3" in capsys.readouterr().err


def test_fewer_than_three_seeds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--claim", "3", "--seeds", "2"]) == 1
    assert "at least 3 seeds" in capsys.readouterr().err


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.7062), (2, 4.30265), (10, 2.22814), (200, 1.97190)])
def test_t_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert t_quantile(0.95, degrees) == pytest.approx(quantile, abs=1e-4)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6))
def test_the_interval_holds_the_mean_in_its_middle(values: list[float]) -> None:
    mean, low, high = t_interval(values)
    assert low <= mean <= high
    assert high - mean == pytest.approx(mean - low, abs=1e-6)


@pytest.mark.parametrize(
    ("claimed", "measured", "verdict"),
    [
        (27, Interval(30, 25, 35), "met"),
        (27, Interval(10, 5, 15), "not met"),
        (27, Interval(-5, -7, -3), "not met"),
        (27, Interval(12, -20, 44), "not measurable at this size"),
        (-63, Interval(-70, -75, -65), "met"),
        (-63, Interval(-30, -35, -25), "not met"),
    ],
)
def test_a_claim_is_met_only_when_reached_and_told_from_nothing(
    claimed: float, measured: Interval, verdict: str
) -> None:
    assert judge(claimed, measured) == verdict


def test_results_are_merged_by_claim(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(seed: int, quick: bool) -> Measurement:
        return Measurement(before=10.0, after=20.0 + seed)

    claim = Claim(number=2, title="a", unit="%", before=10, after=15, measure=measure)
    path = tmp_path / "claims.json"
    first, second = run(claim, [0, 1, 2], quick=True), run(claim, [1, 2, 3], quick=False)
    assert "claim 2: seed 3, 3 of 3" in capsys.readouterr().err
    keep(path, {11: first})
    keep(path, {2: first})
    keep(path, {2: second})
    kept = json.loads(path.read_text())
    assert list(kept) == ["2", "11"]
    assert kept["2"]["seeds"] == [1, 2, 3]
    assert kept["2"]["gain"] == pytest.approx(12.0)
    assert kept["2"]["verdict"] == "met"
    assert kept["11"]["quick"] is True


def test_dynamic_slots_pay_for_the_same_total_whatever_the_draw() -> None:
    history_E, uniform_E = torch.softmax(torch.randn(8), 0), torch.rand(8)
    slots_E = capacity.dynamic_slots(history_E, uniform_E, choices=1024)
    assert float(slots_E.sum()) == pytest.approx(1.25 * 1024)
    assert bool((slots_E > 0).all())


@given(st.integers(0, 50), st.floats(0, 0.5), st.floats(0.01, 0.4))
def test_static_slots_overflow_as_often_as_wanted(seed: int, skew: float, wanted: float) -> None:
    loads_SE = loads(seed, skew)
    slots_SE = capacity.static_slots(loads_SE, wanted)
    assert capacity.overflow(loads_SE, slots_SE) == pytest.approx(wanted, abs=1e-4)


def test_used_and_overflowing_choices_are_all_choices() -> None:
    loads_SE = loads(0, 0.3)
    slots_SE = loads_SE.mean(dim=1, keepdim=True).expand_as(loads_SE)
    used = capacity.utilisation(loads_SE, slots_SE) * float(slots_SE.sum())
    lost = capacity.overflow(loads_SE, slots_SE) * float(loads_SE.sum())
    assert used + lost == pytest.approx(float(loads_SE.sum()))


def test_slots_that_follow_a_skewed_load_are_used_better_than_even_ones() -> None:
    """Without the random term and with the history equal to the present, the mechanism must pay."""
    loads_SE = loads(1, 0.4)
    followed_SE = 1.25 * loads_SE
    even_SE = capacity.static_slots(loads_SE, capacity.overflow(loads_SE, followed_SE))
    assert capacity.utilisation(loads_SE, followed_SE) > capacity.utilisation(loads_SE, even_SE)

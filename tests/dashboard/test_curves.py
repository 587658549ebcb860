from hypothesis import given
from hypothesis import strategies as st

from dashboard.curves import Curves, thinned
from dashboard.schemas import MetricRow

POINTS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=600).map(lambda values: list(enumerate(values)))


def row(seq: int, step: int, **values: float | None) -> MetricRow:
    return MetricRow(seq=seq, step=step, time=0.0, values=values)


@given(POINTS, st.integers(4, 80))
def test_thinning_keeps_the_outline(points: list[tuple[int, float]], limit: int) -> None:
    kept = thinned(points, limit)
    assert len(kept) <= limit
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    values, kept_values = [value for _, value in points], [value for _, value in kept]
    assert (min(kept_values), max(kept_values)) == (min(values), max(values))


def test_rows_add_up_and_a_later_row_replaces_a_step() -> None:
    curves = Curves()
    curves.add([row(1, 1, loss=3.0), row(2, 2, loss=2.0, kl=None)], next=2)
    curves.add([row(3, 2, loss=1.5)], next=3)
    assert curves.points("loss") == [(1, 3.0), (2, 1.5)]
    assert curves.names() == ["loss"]
    assert curves.next == 3


def test_what_was_recorded_once_is_no_curve_unless_nothing_else_is() -> None:
    curves = Curves()
    curves.add([row(1, 0, compiled=1.0), row(2, 1, loss=3.0)], next=2)
    assert (curves.names(), curves.facts()) == (["loss", "compiled"], {})
    curves.add([row(3, 2, loss=2.0)], next=3)
    assert (curves.names(), curves.facts()) == (["loss"], {"compiled": 1.0})


def test_the_total_reward_comes_before_its_parts() -> None:
    curves = Curves()
    parts = {"reward/coherence": 0.1, "answer_tokens": 9.0, "reward/total": 0.5, "exact_match": 0.2}
    curves.add([MetricRow(seq=1, step=1, time=0.0, values=parts)], next=1)
    assert curves.names() == ["reward/total", "exact_match", "reward/coherence", "answer_tokens"]


def test_expert_load_is_the_mean_over_layers() -> None:
    curves = Curves()
    load = {
        "load/layer0/expert0": 0.2,
        "load/layer1/expert0": 0.4,
        "load/layer0/expert1": 0.8,
        "load/layer1/expert1": 0.6,
    }
    curves.add([MetricRow(seq=1, step=5, time=0.0, values=dict(load))], next=1)
    assert curves.names() == []
    loads = {name: points[0][1] for name, points in curves.expert_load().items()}
    assert loads.keys() == {"expert 0", "expert 1"}
    assert abs(loads["expert 0"] - 0.3) < 1e-9
    assert abs(sum(loads.values()) - 1) < 1e-9


def test_the_load_map_holds_the_newest_share_of_each_expert() -> None:
    curves = Curves()
    curves.add([MetricRow(seq=1, step=5, time=0.0, values={"load/layer0/expert0": 0.5, "load/layer0/expert1": 0.5})], 1)
    curves.add([MetricRow(seq=2, step=9, time=0.0, values={"load/layer0/expert0": 0.2, "load/layer0/expert1": 0.8})], 2)
    assert curves.load_map() == [
        {"layer": 0, "expert": 0, "share": 0.2, "ratio": 0.4},
        {"layer": 0, "expert": 1, "share": 0.8, "ratio": 1.6},
    ]

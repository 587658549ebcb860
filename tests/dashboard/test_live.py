from dashboard.live import WINDOW_S, Pace, pace, remembered
from dashboard.schemas import Latency, Live, LiveVersion

BOUNDS = (0.1, 1.0, None)


def look(time: float, requests: int, tokens: int, counts: tuple[int, ...] = (0, 0, 0), version: str = "v1") -> Live:
    latency = Latency(bounds=BOUNDS, counts=counts)
    counted = LiveVersion(
        model_name="octavo", version=version, requests=requests, failed=0, prompt_tokens=0, completion_tokens=tokens,
        running=0, waiting=0, first_token=latency, inter_token=latency,
    )  # fmt: skip
    return Live(time=time, versions=(counted,))


def seen(*looks: Live) -> list[Live]:
    kept: list[Live] = []
    for one in looks:
        kept = remembered(kept, one)
    return kept


def test_rates_and_times_are_of_what_came_between_two_looks() -> None:
    looks = seen(look(0, 10, 100, (9, 1, 0)), look(4, 12, 180, (9, 3, 0)))
    found = pace(looks, looks[-1].versions[0])
    assert (found.requests_per_second, found.tokens_per_second) == (0.5, 20.0)
    assert found.first_token.counts == (0, 2, 0)


def test_a_rate_reaches_back_over_the_window_and_no_further_than_one_look_before_it() -> None:
    looks = seen(*(look(2.0 * n, n, 0) for n in range(100)))
    assert WINDOW_S <= looks[-1].time - looks[0].time <= WINDOW_S + 2


def test_one_look_says_nothing_and_neither_does_a_version_that_just_came() -> None:
    nothing = Pace(0.0, 0.0, Latency(bounds=(), counts=()), Latency(bounds=(), counts=()))
    alone = seen(look(0, 10, 100))
    assert pace(alone, alone[-1].versions[0]) == nothing
    later = seen(look(0, 10, 100), look(4, 3, 30, version="v2"))
    assert pace(later, later[-1].versions[0]) == nothing


def test_a_count_that_fell_means_serving_began_anew() -> None:
    looks = seen(look(0, 10, 100), look(2, 1, 5), look(4, 3, 25))
    assert [one.time for one in looks] == [2, 4]
    assert pace(looks, looks[-1].versions[0]).tokens_per_second == 10.0

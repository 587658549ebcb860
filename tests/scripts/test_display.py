import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.api import JobState
from scripts.display import BAR_CELLS, JobLines, bar, duration, evaluation_table


def job(**changes: Any) -> JobState:
    values: dict[str, Any] = {
        "id": "a", "name": "sft", "kind": "sft", "state": "running", "step": 0, "total_steps": 100, "message": "",
        "error": None, "started": 1.0, "finished": None, "reused_from": None, "spec": {}, "seconds_left": None,
        "run_folder": "runs/a",
    }  # fmt: skip
    return JobState(**{**values, **changes})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.floats(-1, 2))
def test_a_bar_always_has_its_width(share: float) -> None:
    assert len(bar(share)) == BAR_CELLS


def test_a_bar_is_full_only_at_the_end() -> None:
    assert bar(0) == "░" * BAR_CELLS
    assert bar(1) == "█" * BAR_CELLS
    assert "░" in bar(0.9)


@pytest.mark.parametrize(("seconds", "text"), [(None, "–"), (7.4, "7 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s")])
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_a_line_is_printed_at_each_change_only() -> None:
    out = io.StringIO()
    lines = JobLines(out)
    for step in (0, 1, 2, 30, 31, 99):
        lines.show_running([job(step=step, seconds_left=5.0)])
    assert lines.show_finished([job(state="succeeded", finished=11.0)]) != []
    assert lines.show_finished([job(state="succeeded", finished=11.0)]) == []
    printed = out.getvalue().splitlines()
    assert len(printed) == 4
    assert "5 s left" in printed[0]
    assert printed[-1].endswith("took 10 s")
    assert "\x1b" not in out.getvalue()


def test_on_a_terminal_a_job_keeps_one_line() -> None:
    out = Terminal()
    lines = JobLines(out)
    for step in range(100):
        lines.show_running([job(step=step)])
    lines.show_finished([job(state="succeeded", finished=2.0)])
    assert out.getvalue().count("\n") == 1


def test_a_job_that_never_started_prints_nothing() -> None:
    out = io.StringIO()
    cancelled = job(state="cancelled", started=None)
    assert JobLines(out).show_finished([cancelled]) == [cancelled]
    assert out.getvalue() == ""


def test_a_reused_job_took_no_time() -> None:
    assert job(state="succeeded", finished=9.0, reused_from="b").seconds == 0.0
    assert job(state="succeeded", finished=9.0).seconds == 8.0
    assert job().seconds is None


def test_the_table_shows_each_stage_with_its_interval_and_paired_difference() -> None:
    first = {"n": 500, "exact_match": 0.4, "exact_match_interval": [0.357, 0.4436], "perplexity": {"dialogue": 1.5}}
    paired = {"mean": 0.25, "low": 0.2, "high": 0.3}
    head, rule, sft, rlhf = evaluation_table(
        [("after SFT", first), ("after RLHF", first | {"exact_match": 0.65, "baseline_difference": paired})]
    )
    assert "perplexity dialogue" in head
    assert set(rule) == {"─"}
    assert "40.0 % (95 %: 35.7 % to 44.4 %)" in sft
    assert "+25.0 (+20.0 to +30.0)" in rlhf
    assert sft.index("40.0") == rlhf.index("65.0")

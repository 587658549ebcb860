import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import formats


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0, "0 s"), (59.4, "59 s"), (125, "2 min 05 s"), (3600, "1 h 00 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_said_in_two_units(seconds: float | None, said: str) -> None:
    assert formats.duration(seconds) == said


def test_ago_counts_the_largest_unit() -> None:
    assert [formats.ago(1000 - seconds, now=1000) for seconds in (3, 60, 7300)] == [
        "just now",
        "1 minute ago",
        "2 hours ago",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1234567, "1\u202f234\u202f567"),
        (1.9443e10, "19.44 G"),
        (0.0002, "2.00e-04"),
        (0.5, "0.5"),
        (0.0, "0"),
        (float("nan"), "nan"),
        (None, "–"),
    ],
)
def test_numbers_are_readable(value: float | None, said: str) -> None:
    assert formats.number(value) == said


def test_an_interval_of_a_difference_keeps_its_signs() -> None:
    assert formats.interval(-0.01, 0.05, signed=True) == "-1.0 to +5.0 %"


def test_thoughts_are_split_from_the_answer() -> None:
    assert formats.split_think("<think>1 + 1 = 2.</think>The answer is 2.") == ("1 + 1 = 2.", "The answer is 2.")
    assert formats.split_think("<think>still thinking") == ("still thinking", "")


@given(st.text())
def test_a_text_without_a_thought_is_all_answer(text: str) -> None:
    if "<think>" not in text:
        assert formats.split_think(text) == ("", text.strip())


@given(st.text(min_size=1))
def test_a_curl_line_survives_the_shell_and_holds_no_key(content: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": content}]}
    words = shlex.split(formats.curl("http://host:1", body))
    assert words[words.index("-d") + 1] == json.dumps(body, ensure_ascii=False)
    assert "Authorization: Bearer $OCTAVO_KEY" in words


def test_a_cell_never_shows_a_raw_object() -> None:
    assert formats.brief({"a_b": 1, "c": [True, None]}) == "A b 1, C yes, –"


def test_latencies_are_said_in_the_unit_that_fits() -> None:
    said = [formats.latency(seconds) for seconds in (None, 0.0034, 0.34, 1.254)]
    assert said == ["–", "3.4 ms", "340 ms", "1.25 s"]

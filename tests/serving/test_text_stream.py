"""Stop strings are found wherever token borders fall, and nothing of them is shown."""

from hypothesis import given
from hypothesis import strategies as st

from serving.text_stream import TextStream


class Letters:
    """A decoder whose tokens are code points."""

    def push(self, token: int) -> str:
        return chr(token)

    def flush(self) -> str:
        return ""


def shown(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    stream, parts = TextStream(Letters(), stop), []
    for character in text:
        parts.append(stream.push(ord(character)))
        if stream.stopped:
            return "".join(parts), True
    return "".join([*parts, stream.flush()]), stream.stopped


letters = st.text(alphabet="abc", max_size=20)


@given(letters, st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3))
def test_the_text_ends_where_the_first_stop_string_is_complete(text: str, stops: list[str]) -> None:
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    first_end = min((end for end, _ in ends), default=None)
    # Of the stop strings that are complete first, the one that begins first counts.
    expected = text if first_end is None else text[: min(start for end, start in ends if end == first_end)]
    assert shown(text, tuple(stops)) == (expected, first_end is not None)


def test_text_that_cannot_begin_a_stop_string_is_shown_at_once() -> None:
    stream = TextStream(Letters(), ("END",))
    assert [stream.push(ord(character)) for character in "xENxE"] == ["x", "", "", "ENx", ""]
    assert stream.flush() == "E"


def test_a_stop_string_completed_by_the_last_bytes_counts() -> None:
    class Late(Letters):
        def flush(self) -> str:
            return "�"

    stream = TextStream(Late(), ("a�",))
    assert stream.push(ord("a")) == ""
    assert stream.flush() == ""
    assert stream.stopped

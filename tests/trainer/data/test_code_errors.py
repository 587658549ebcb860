"""What counts as a syntax error of written code: real faults do, what more text could mend does not."""

import os
from pathlib import Path
from random import Random

import pytest

from trainer.data.structure.errors import Span, first_error


def blamed(text: str, ended: bool = False, start: int = 0) -> str | None:
    """The text of the first error node, with a mark where it covers the place of the end token."""
    error = first_error(text.encode(), "python", ended=ended, start=start)
    return None if error is None else (text + "¶")[error.start : error.end]


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "x = 1\n",
        "    return x\n\ndef f():\n    pass\n",  # a chunk may begin anywhere in a file
        "def f(x):\n    '''Say (what) [it does'''\n    return x",
        "async",
    ],
)
def test_code_that_parses_has_none(text: str, ended: bool) -> None:
    assert blamed(text, ended) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = ) + 1\ny = 2\n", ")"),
        ("x = $\ny = 2\n", "$"),
        ("for i in range(3) print(i)\n", "print"),  # the innermost of two nested nodes
        ("x = 5 5\ny = 1\n", "5"),
        ("d = {'a': 1 'b': 2}\n", "1 'b':"),
        ("def f(:\n    x = 1\n", ":"),  # MISSING ')': the byte where it should begin
        ("f(a, b))\nx = 1\n", "f(a, b))"),
        ("x = ]\ny = '''not closed\n", "]"),
    ],
)
@pytest.mark.parametrize("ended", [True, False])
def test_a_fault_is_found_where_it_is_however_the_text_goes_on(text: str, error: str, ended: bool) -> None:
    assert blamed(text, ended) == error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x = (1 + 2\n", "x = (1 + 2\n¶"),
        ("x = {\n  'a': 1,\n  'b':", "x = {\n  'a': 1,\n  'b':¶"),
        ("def f(x):\n    if x", "if x¶"),
        ("x = 1 + ", "x = 1 + ¶"),
        ("'''doc", "'''"),
        ("y = 1\nx = 'abc", "'"),
        ("import os\n@dec\n", "@dec\n¶"),
    ],
)
def test_an_error_at_the_end_counts_only_where_the_text_ended_by_itself(text: str, error: str) -> None:
    assert blamed(text, ended=True) == error
    assert blamed(text, ended=False) is None


def test_only_what_follows_the_start_is_blamed() -> None:
    prompt = "def f(x"
    assert blamed(prompt + ":\n    return 1\nz = 3\n", start=len(prompt)) == "def f(x:"
    assert blamed("a b\nx = ) + 1\ny = 2\n", start=4) == ")"
    assert blamed("a b\ny = 2\nz = 3\n", start=4) == "y", "an error node before the start: its first byte"


def test_spans_are_bytes() -> None:
    assert first_error("größe = ) + 1\ny = 2\n".encode(), "python", ended=False) == Span(10, 11)
    assert first_error(b"x = \xff\ny = 1\n", "python", ended=True) == Span(4, 5), "no UTF-8 outside of a string"


def test_beginnings_of_real_programs_hardly_ever_have_one_and_damaged_ones_mostly_do() -> None:
    """The standard library, cut off anywhere. Long brackets with comments in them are what tree-sitter now and then
    gives up on."""
    rng, wrong, missed, tried = Random(0), 0, 0, 300
    files = sorted(Path(os.__file__).parent.glob("*.py"))
    for _ in range(tried):
        program = rng.choice(files).read_bytes()
        cut = program[: rng.randrange(200, 1500)]
        wrong += first_error(cut, "python", ended=False) is not None
        damaged = b"import os\n\nx = ) + 1\n" + cut
        missed += first_error(damaged, "python", ended=False) is None
    assert wrong / tried < 0.03
    assert missed / tried < 0.1

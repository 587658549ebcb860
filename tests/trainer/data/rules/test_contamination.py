"""Runs of words that an evaluation has, against runs found as strings."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.rules.documents import ENGLISH, GERMAN, document
from trainer.data.rules.contamination import RUN, SHORT_RUN, Contamination, evaluation_texts

sentences = st.lists(st.sampled_from("abc"), max_size=20).map(" ".join)


def plainly_shared(text: str, evaluations: list[str]) -> bool:
    def runs(text: str, n: int) -> set[str]:
        words = text.split()
        return {" ".join(words[start : start + n]) for start in range(len(words) - n + 1)}

    sizes = [(other, RUN if len(other.split()) >= RUN else SHORT_RUN) for other in evaluations]
    return any(runs(text, n) & runs(other, n) for other, n in sizes)


@settings(deadline=None)  # the first call makes tables
@given(sentences, st.lists(sentences, max_size=4))
def test_a_shared_run_is_found_as_in_strings(text: str, evaluations: list[str]) -> None:
    dropped = Contamination(evaluations).apply(document(text)) is None
    assert dropped == plainly_shared(text, evaluations)


def test_a_quoted_question_is_found_whatever_its_case_and_punctuation() -> None:
    rule = Contamination([ENGLISH, "How many legs has an ordinary spider, usually, in all?", "Too short to tell"])
    quoted = " ".join(ENGLISH.split()[10:24]).upper().replace(" ", " - ")
    assert rule.apply(document(f"{GERMAN} {quoted} {GERMAN}")) is None
    assert rule.apply(document(f"{GERMAN} how many legs has an ordinary spider usually in all {GERMAN}")) is None
    assert rule.apply(document(f"{GERMAN} too short to tell"))
    assert rule.apply(document(""))


def test_all_strings_of_all_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"question": "q", "answers": ["one", {"deep": "two"}], "n": 3}) + "\n\n"
    )
    (tmp_path / "more" / "b.jsonl.gz").write_bytes(gzip.compress(b'"alone"\n'))
    assert list(evaluation_texts([tmp_path])) == ["q", "one", "two", "alone"]


@pytest.mark.parametrize("name", ["missing.jsonl", "empty", "notes.txt", "broken.jsonl", "cut.jsonl.gz"])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'"text"\n' * 99)[:-9])
    with pytest.raises(ValueError, match=name):
        list(evaluation_texts([tmp_path / name]))

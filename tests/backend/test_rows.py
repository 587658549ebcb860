"""Rows of large JSON Lines files: every page is what reading the whole file would give."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.jobs import rows as module
from backend.jobs.rows import Rows, Wanted, page

VALUES = st.text(st.sampled_from(list('aBé"\\/\n {}:')), max_size=4)
RECORDS = st.lists(
    st.fixed_dictionaries({"text": VALUES, "n": st.integers(0, 12), "tags": st.lists(VALUES, max_size=2)})
)


def write(path: Path, records: list[Any], ascii_only: bool) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records), encoding="utf-8")
    return path


def holds(record: Any, needle: str) -> bool:
    """The slow, obvious search."""
    values = [str(record["text"]), str(record["n"]), *record["tags"]]
    return any(needle.casefold() in value.casefold() for value in values)


@given(first=RECORDS, second=RECORDS, block=st.integers(1, 64), ascii_only=st.booleans())
def test_every_row_is_found_by_its_number(
    tmp_path_factory: pytest.TempPathFactory, first: list[Any], second: list[Any], block: int, ascii_only: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        paths = [write(folder / f"{n}.jsonl", records, ascii_only) for n, records in enumerate((first, second))]
        rows = Rows(paths)
        assert rows.total == len(first + second)
        for number, record in enumerate(first + second):
            assert rows.row(number) == record
            assert [json.loads(line) for _, line in rows.since(number)] == (first + second)[number:]
        with pytest.raises(IndexError, match=f"there are {rows.total}"):
            rows.row(rows.total)


@given(
    records=RECORDS, search=VALUES, n=st.integers(0, 12) | st.none(), limit=st.integers(1, 4), ascii_only=st.booleans()
)
def test_pages_of_a_search_are_what_a_search_of_everything_finds(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[Any],
    search: str,
    n: int | None,
    limit: int,
    ascii_only: bool,
) -> None:
    rows = Rows([write(tmp_path_factory.mktemp("rows") / "a.jsonl", records, ascii_only)])
    wanted = Wanted(search, () if n is None else (("n", str(n)),))
    found: list[Any] = []
    following: int | None = 0
    while following is not None:
        answer = page(rows, following, limit, wanted)
        assert len(answer.rows) <= limit
        assert [records[number] for number in answer.numbers] == answer.rows
        found, following = found + answer.rows, answer.next
    assert found == [record for record in records if holds(record, search) and n in (None, record["n"])]


def test_a_search_out_of_time_says_where_to_go_on(tmp_path: Path) -> None:
    rows = Rows([write(tmp_path / "a.jsonl", [{"text": f"row {n}"} for n in range(9)], True)])
    first = page(rows, 0, 5, Wanted("row 8"), seconds=0)
    assert (first.rows, first.total) == ([], 9)
    assert first.next is not None
    assert 0 < first.next < 9
    assert page(rows, first.next, 5, Wanted("row 8")).numbers == [8]


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n{"n"')
    assert page(Rows([path]), 0, 5, Wanted()).rows == [{"n": 1}]
    with open(path, "a") as file:
        file.write(": 2}\n")
    assert page(Rows([path]), 0, 5, Wanted()).rows == [{"n": 1}, {"n": 2}]

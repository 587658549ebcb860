"""Files of every kind: what is read out of each, cut or whole, packed or not, with its licence and origin."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tests.trainer.data.reading import all_of, opened, read, reasons, texts
from trainer.data.sources import files
from trainer.data.sources.kinds import kind_of, language_of
from trainer.data.sources.rows import as_text, fill
from trainer.data.sources.text import lines, pieces
from trainer.spec import Record

ROWS = [{"text": f"row {n}", "id": f"r{n}", "license": "CC-BY-4.0"} for n in range(5)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"
GPL = "GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007"


def zipped(files_: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files_.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files_: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files_.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pyarrow.compress(content, codec="zstd", asbytes=True))


COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "zst": zstd, "bz2": bz2.compress, "xz": lzma.compress
}  # fmt: skip


def as_parquet(rows: list[dict[str, str]], rows_a_group: int = 2) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer, row_group_size=rows_a_group)
    return buffer.getvalue()


def as_csv(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    table = [list(rows[0]), *([row[key] for key in rows[0]] for row in rows)]
    return "".join(delimiter.join(f'"{cell}"' for cell in cells) + "\r\n" for cells in table).encode()


TABLES = {
    "rows.jsonl": JSONL,
    "rows.json": json.dumps(ROWS).encode(),
    "rows.csv": as_csv(ROWS),
    "rows.tsv": as_csv(ROWS, "\t"),
    "semicolons.csv": as_csv(ROWS, ";"),
    "rows.parquet": as_parquet(ROWS),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_gives_a_record_for_each_row_with_where_it_is_from(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(TABLES[name])
    records, skipped = read(tmp_path / name)
    assert not skipped
    assert [one.text for one in records] == [row["text"] for row in ROWS]
    wanted = [{"path": name, "row": n + 1, "license": "CC-BY-4.0", "id": f"r{n}"} for n in range(5)]
    assert [one.meta for one in records] == wanted


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("packing", ["gz", "zst", "bz2", "xz", "zip", "tar", "tar.gz", "tgz", "tar.zst", "zip in tar"])
def test_what_is_packed_reads_like_what_is_not(tmp_path: Path, name: str, packing: str) -> None:
    content = TABLES[name]
    match packing:
        case "zip":
            packed, path = zipped({name: content}), "a.zip"
        case "zip in tar":
            packed, path = tarred({"deep/a.zip": zipped({name: content})}), "a.tar"
        case "tar":
            packed, path = tarred({name: content}), "a.tar"
        case "tar.gz" | "tgz":
            packed, path = gzip.compress(tarred({name: content})), f"a.{packing}"
        case "tar.zst":
            packed, path = zstd(tarred({name: content})), "a.tar.zst"
        case _:
            packed, path = COMPRESSED[packing](content), f"{name}.{packing}"
    (tmp_path / path).write_bytes(packed)
    records, skipped = read(tmp_path / path)
    assert not skipped
    assert [one.text for one in records] == [row["text"] for row in ROWS]
    inside = {"zip in tar": f"{path}/deep/a.zip/{name}"}.get(
        packing, path if packing in COMPRESSED else f"{path}/{name}"
    )
    assert {one.meta["path"] for one in records} == {inside}


def test_a_large_file_cut_into_ranges_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts_ = [f"{n}: " + "word " * (n * 7 % 40) for n in range(300)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts_))
    (tmp_path / "rows.parquet").write_bytes(as_parquet([{"text": text} for text in texts_], rows_a_group=70))
    whole = sorted(texts(tmp_path))
    monkeypatch.setattr(files, "CUT_ABOVE", 1_000)
    (source,) = opened(tmp_path)
    assert sum(unit.name.startswith("rows.jsonl[") for unit in source.units) > 20
    assert sum(unit.name.startswith("rows.parquet[") for unit in source.units) == 5
    records = [one for one in all_of(source) if isinstance(one, Record)]
    assert sorted(one.text for one in records) == whole
    assert {one.meta["row"] for one in records if "row" in one.meta} == set(range(1, 301))
    sizes = [unit.bytes for unit in source.units if unit.name.startswith("rows.jsonl[")]
    assert sum(sizes) == (tmp_path / "rows.jsonl").stat().st_size


@given(st.lists(st.binary(max_size=12), max_size=20), st.integers(1, 9))
def test_lines_of_all_ranges_are_the_lines(parts: list[bytes], size: int) -> None:
    """The law behind cutting: a line belongs to the range in which its first byte lies."""
    content = b"\n".join(part.replace(b"\n", b"") for part in parts)
    found: list[bytes | None] = []
    for start in range(0, len(content), size):
        stream = io.BytesIO(content)
        position = start
        if start:
            stream.seek(start - 1)
            position += len(stream.readline()) - 1
        found += [line for _, line in lines(stream, position, min(start + size, len(content)))]
    assert found == io.BytesIO(content).readlines()


def test_a_long_text_becomes_several_records_and_none_of_it_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST_TEXT", 500)
    text = "".join(f"Paragraph {n}.\nIts second line.\n\n" for n in range(60))
    (tmp_path / "long.txt").write_text(text)
    records, _ = read(tmp_path)
    assert len(records) > 3
    assert "".join(one.text for one in records) == text
    assert [one.meta["part"] for one in records] == list(range(1, len(records) + 1))
    assert all(one.text.endswith("\n\n") for one in records)


@given(st.binary(max_size=300), st.integers(4, 40))
def test_pieces_are_the_whole(content: bytes, largest: int) -> None:
    found = list(pieces(io.BytesIO(content), largest))
    assert b"".join(found) == content
    assert all(len(piece) <= largest for piece in found)


# -- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("title", "T"),
        ("data.body", "B"),
        ("data.answers.1.text", "second"),
        ("dotted.name", "D"),
        ("{title}: {data.body}\n{n}", "T: B\n3"),
        ("{title} {nothing}", None),
        ("data", None),
        ("lines", "a\nb"),
        ("chat", "user: Hi\n\nassistant: Hello"),
        ("sharegpt", "human: Hi"),
        ("absent", None),
        ("null", None),
    ],
)
def test_text_fields(field: str, wanted: str | None) -> None:
    row = {
        "title": "T", "n": 3, "null": None, "dotted.name": "D", "lines": ["a", "b"],
        "data": {"body": "B", "answers": [{"text": "first"}, {"text": "second"}]},
        "chat": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        "sharegpt": [{"from": "human", "value": "Hi"}],
    }  # fmt: skip
    assert fill(field, row) == wanted


def test_values_of_a_template_are_not_templates() -> None:
    assert fill("{a}{b}", {"a": "{b}", "b": "x"}) == "{b}x"
    assert as_text([]) is None


def test_the_first_field_that_a_row_has_is_its_text(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"q": "two", "a": "2"}, {"other": "three"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fields = {"text_fields": ["text", "{q} {a}"]}
    assert texts(tmp_path, rows=fields) == ["one", "two 2"]
    assert reasons(tmp_path, rows=fields) == [("field missing", "rows.jsonl, row 3")]


# -- code and licences -----------------------------------------------------------------------------------------------


def test_code_is_told_by_its_name() -> None:
    assert [language_of(name) for name in ("a/b.rs", "Makefile", "x.cpp", "a.txt")] == ["rust", "make", "cpp", ""]
    assert [kind_of(name) for name in ("README", "a.PDF", "a.jsonl.gz", "a.bin")] == ["text", "pdf", "compressed", None]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        "LICENSE": MIT.encode(),
        "a.c": b"int main(void) { return 0; }",
        "b.go": b"// SPDX-License-Identifier: BSD-2-Clause\npackage b",
        "vendored/COPYING": GPL.encode(),
        "vendored/deep/c.rs": b"fn main() {}",
    }


LICENCES = {"a.c": "MIT", "b.go": "BSD-2-Clause", "vendored/deep/c.rs": "GPL-3.0", "LICENSE": "MIT"}


@pytest.mark.parametrize("packed", [None, zipped, tarred])
def test_the_nearest_licence_governs_and_a_header_goes_before_it(
    tmp_path: Path, packed: Callable[[dict[str, bytes]], bytes] | None
) -> None:
    files_ = tree(tmp_path)
    if packed is not None:
        (tmp_path / f"a.{packed.__name__[:3]}").write_bytes(packed(files_))
    else:
        for name, content in files_.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    for _ in range(2):  # a second reading knows no more than the first
        found = {one.meta["path"].removeprefix("a.zip/").removeprefix("a.tar/"): one for one in read(tmp_path)[0]}
        assert {name: found[name].meta["license"] for name in LICENCES} == LICENCES
    assert (found["a.c"].domain, found["a.c"].language) == ("code", "c")


def test_two_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    for place in ("one", "two"):
        (tmp_path / place / "corpus").mkdir(parents=True)
        (tmp_path / place / "corpus" / "a.txt").write_text(place)
    sources = opened(tmp_path / "one" / "corpus", tmp_path / "two" / "corpus")
    assert [source.name for source in sources] == ["corpus", "corpus-2"]


def test_a_unit_says_how_far_it_has_read(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"text": "again and again"}\n' * 50_000))
    (source,) = opened(tmp_path)
    (unit,) = source.units
    found = unit.read()
    assert unit.position(0) == 0
    next(found)
    assert 0 < unit.position(10) <= unit.bytes == (tmp_path / "rows.jsonl.gz").stat().st_size
    assert sum(1 for _ in found) == 49_999
    assert unit.position(10) == unit.bytes

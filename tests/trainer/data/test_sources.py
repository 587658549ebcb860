"""Sources: deterministic order, mistakes named before anything is read, the Python installation as real text."""

import gzip
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from trainer.data.sources import catalogues, installation_sources, open_sources, record
from trainer.spec import Record


def corpus(folder: Path) -> Path:
    """One file of each kind that a folder may hold, and one that is left alone."""
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("plain text")
    (folder / "b.md").write_text(r"formulas $\frac{a}{b}$ and $\sum_i x_i$")
    (folder / "deep" / "c.py").write_text("x = 1\n")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    rows = [{"text": "eins", "lang": "de"}, {"title": "no text"}, {"text": "two", "domain": "science"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(folder / "rows.jsonl.gz", "wt") as file:
        file.write(json.dumps({"text": "broken half: \ud800"}) + "\n")
    return folder


def records(folder: Path) -> list[Record]:
    (source,) = open_sources([str(folder)], python_installation=False)
    return list(source.read())


def test_every_kind_of_file_is_read_with_its_domain(tmp_path: Path) -> None:
    found = {found.text: found for found in records(corpus(tmp_path / "corpus"))}
    assert len(found) == 6
    assert found["plain text"].domain == "general"
    assert found[r"formulas $\frac{a}{b}$ and $\sum_i x_i$"].domain == "science"
    assert (found["x = 1\n"].domain, found["x = 1\n"].language) == ("code", "python")
    assert (found["eins"].language, found["two"].domain) == ("de", "science")
    assert found["eins"].meta == {"path": "rows.jsonl", "row": 1}
    assert found["broken half: ?"].source == "corpus"


def test_order_and_ids_depend_on_names_and_contents_only(tmp_path: Path) -> None:
    first, second = corpus(tmp_path / "one" / "corpus"), corpus(tmp_path / "two" / "corpus")
    assert records(first) == records(second)
    assert len({found.id for found in records(first)}) == 6
    assert record("a", "s", "general", path="x").id != record("b", "s", "general", path="x").id


def test_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        open_sources([str(corpus(tmp_path / "good")), str(tmp_path / "nowhere")], python_installation=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no file"):
        open_sources([str(tmp_path / "empty")], python_installation=False)
    with pytest.raises(ValueError, match="nothing to read"):
        open_sources([], python_installation=False)


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Root may read everything; for the time being this process is nobody."""
    user, nobody = os.geteuid(), 65534
    os.seteuid(user or nobody)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_folder_within_that_cannot_be_read_is_named_at_once() -> None:
    # Not tmp_path: nobody may not enter it.
    with tempfile.TemporaryDirectory() as name:
        corpus(folder := Path(name, "corpus"))
        Path(name).chmod(0o755)
        (folder / "deep").chmod(0)
        try:
            with without_roots_rights(), pytest.raises(ValueError, match=r"deep cannot be read \(Permission denied\)"):
                open_sources([str(folder)], python_installation=False)
        finally:
            (folder / "deep").chmod(0o755)


def test_rows_without_any_text_are_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"title": "no text"}\n')
    with pytest.raises(ValueError, match="holds no text: no row"):
        records(tmp_path)


@pytest.mark.parametrize(
    "content", [b"never compressed", gzip.compress(b'{"text": "a"}\n' * 9)[:-9]], ids=["no gzip", "cut off"]
)
def test_a_damaged_compressed_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"rows\.jsonl\.gz is damaged"):
        records(tmp_path)


@pytest.mark.parametrize(
    ("line", "complaint"), [("{broken", "line 2 is not JSON"), ("[1]", "line 2 is no JSON object")]
)
def test_a_broken_row_is_named_with_its_line(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "good"}\n' + line + "\n")
    with pytest.raises(ValueError, match=complaint):
        records(tmp_path)


def compiled(messages: dict[str, str]) -> bytes:
    """A gettext catalogue as msgfmt compiles it: seven header words, two tables of (length, offset), the strings."""
    pairs = [(key.encode(), text.encode()) for key, text in sorted(messages.items())]
    strings, tables = b"", ([], [])
    start = 28 + 16 * len(pairs)
    for column, table in enumerate(tables):
        for pair in pairs:
            table += [len(pair[column]), start + len(strings)]
            strings += pair[column] + b"\0"
    header = [0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0]
    return struct.pack(f"<{7 + 4 * len(pairs)}I", *header, *tables[0], *tables[1]) + strings


def test_catalogues_give_their_translated_sentences(tmp_path: Path) -> None:
    for locale, text in (("de", "Guten Morgen"), ("pt_BR", "Bom dia"), ("en", "Good day")):
        folder = tmp_path / "package" / "locale" / locale / "LC_MESSAGES"
        folder.mkdir(parents=True)
        messages = {"": "Content-Type: text/plain; charset=UTF-8\n", "Good morning": text, "same": "same"}
        (folder / "package.mo").write_bytes(compiled(messages))
    found = {(one.language, one.domain, one.text) for one in catalogues(tmp_path)}
    assert found == {
        ("de", "multilingual", "Guten Morgen"),
        ("pt", "multilingual", "Bom dia"),
        ("en", "general", "Good day"),
    }


@pytest.mark.parametrize(
    "source",
    [source for source in installation_sources() if source.name != "python-locales"],
    ids=lambda source: source.name,
)
def test_the_python_installation_is_real_text_in_a_fixed_order(source) -> None:  # type: ignore[no-untyped-def]
    found = list(islice(source.read(), 30))
    assert found == list(islice(source.read(), 30))
    assert len(found) == 30
    assert {one.source for one in found} == {source.name}
    domains = {"python-code": "code", "python-science": "science"}
    assert {one.domain for one in found} == {domains.get(source.name, "general")}
    assert sum(len(one.text) for one in found) > 3_000

"""Sources: deterministic order, mistakes named before anything is read, the Python installation as real text."""

import gzip
import json
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from trainer.data.sources import Found, Skipped, Source, installation_sources, open_sources, record
from trainer.data.sources.installation import catalogue
from trainer.spec import CleanSpec, Record


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


def opened(*folders: Path, python_installation: bool = False) -> list[Source]:
    names = tuple(map(str, folders))
    return open_sources(CleanSpec(name="clean", folders=names, python_installation=python_installation))


def all_of(source: Source) -> Iterator[Found]:
    return (found for unit in source.units for found in unit.read())


def read(folder: Path) -> tuple[list[Record], list[Skipped]]:
    (source,) = opened(folder)
    found = list(all_of(source))
    return [one for one in found if isinstance(one, Record)], [one for one in found if isinstance(one, Skipped)]


def records(folder: Path) -> list[Record]:
    return read(folder)[0]


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
        opened(corpus(tmp_path / "good"), tmp_path / "nowhere", python_installation=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no file"):
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="nothing to read"):
        opened()


def test_what_cannot_be_read_is_counted_under_its_reason(tmp_path: Path) -> None:
    lines = ['{"text": "good"}', "{broken", "[1]", '{"title": "no text"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    kept, skipped = read(tmp_path)
    assert [one.text for one in kept] == ["good"]
    assert [(one.reason, one.where) for one in skipped] == [
        ("row is not JSON", "rows.jsonl, row 2"),
        ("row is no JSON object", "rows.jsonl, row 3"),
        ("field missing", "rows.jsonl, row 4"),
    ]


@pytest.mark.parametrize(
    "content", [b"never compressed", gzip.compress(b'{"text": "a"}\n' * 9)[:-9]], ids=["no gzip", "cut off"]
)
def test_a_damaged_compressed_file_is_counted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(content)
    assert [one.reason for one in read(tmp_path)[1]] == ["damaged archive"]


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
    found = {
        (one.language, one.domain, one.text)
        for path in tmp_path.rglob("*.mo")
        for one in catalogue(path, path.name)
        if isinstance(one, Record)
    }
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
    found = list(islice(all_of(source), 30))
    assert found == list(islice(all_of(source), 30))
    assert len(found) == 30
    assert {one.source for one in found} == {source.name}
    domains = {"python-code": "code", "python-science": "science"}
    assert {one.domain for one in found} == {domains.get(source.name, "general")}
    assert sum(len(one.text) for one in found) > 3_000

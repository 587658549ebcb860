"""Sources: deterministic order, mistakes named before anything is read, the Python installation as real text."""

import gzip
import json
import struct
from itertools import islice
from pathlib import Path

import pytest

from tests.trainer.data.reading import all_of, opened, read
from trainer.data.sources import Skipped, Source, installation_sources, record
from trainer.data.sources.installation import catalogue
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


def test_every_kind_of_file_is_read_with_its_domain(tmp_path: Path) -> None:
    found = {found.text: found for found in read(corpus(tmp_path / "corpus"))[0]}
    assert len(found) == 6
    assert found["plain text"].domain == "general"
    assert found[r"formulas $\frac{a}{b}$ and $\sum_i x_i$"].domain == "science"
    assert (found["x = 1\n"].domain, found["x = 1\n"].language) == ("code", "python")
    assert (found["eins"].language, found["two"].domain) == ("de", "science")
    assert found["eins"].meta == {"path": "rows.jsonl", "row": 1}
    assert found["broken half: ?"].source == "corpus"


def test_order_and_ids_depend_on_names_and_contents_only(tmp_path: Path) -> None:
    first, second = corpus(tmp_path / "one" / "corpus"), corpus(tmp_path / "two" / "corpus")
    assert read(first) == read(second)
    assert len({found.id for found in read(first)[0]}) == 6
    assert record("a", "s", "general", path="x").id != record("b", "s", "general", path="x").id


def test_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        opened(corpus(tmp_path / "good"), tmp_path / "nowhere", python_installation=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no file"):
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="nothing to read"):
        opened()


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


def test_a_catalogue_in_another_encoding_than_it_says_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "gl" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    content = compiled({"": "Content-Type: text/plain; charset=UTF-8\n", "day": "día"})
    (folder / "a.mo").write_bytes(content.replace("í".encode(), b"\xed\xed"))
    (found,) = catalogue(folder / "a.mo", "gl/a.mo")
    assert isinstance(found, Skipped)
    assert (found.reason, found.where) == ("damaged catalogue", "gl/a.mo")


@pytest.mark.parametrize(
    "source",
    [source for source in installation_sources() if source.name != "python-locales"],
    ids=lambda source: source.name,
)
def test_the_python_installation_is_real_text_in_a_fixed_order(source: Source) -> None:
    found = list(islice(all_of(source), 30))
    assert found == list(islice(all_of(source), 30))
    assert len(found) == 30
    records = [one for one in found if isinstance(one, Record)]
    assert {one.source for one in records} == {source.name}
    domains = {"python-code": "code", "python-science": "science"}
    assert {one.domain for one in records} == {domains.get(source.name, "general")}
    assert sum(len(one.text) for one in records) > 3_000
    assert any("license" in one.meta for one in records)

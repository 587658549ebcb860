"""Bad input: each fault is counted under its reason, what is good beside it is kept, and memory stays small."""

import gzip
import io
import json
import os
import tarfile
import tempfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.data.reading import all_of, opened, read, reasons, texts
from tests.trainer.data.test_source_files import COMPRESSED, JSONL, ROWS, as_parquet, tarred, zipped, zstd
from trainer.data.sources import Skipped, archives, tables, text
from trainer.data.sources import files as source_files


@pytest.fixture(autouse=True)
def good(tmp_path: Path) -> Path:
    """There is always something that can be read."""
    (tmp_path / "good.txt").write_text("good")
    return tmp_path


# -- rows ------------------------------------------------------------------------------------------------------------


def test_every_row_is_kept_or_counted(good: Path) -> None:
    lines = ['{"text": "kept"}', "{broken", "[1]", "", '{"title": "no text"}', '{"text": null}', "[" * 100_000]
    (good / "rows.jsonl").write_text("\n".join(lines))
    assert texts(good) == ["good", "kept"] or texts(good) == ["kept", "good"]
    assert reasons(good) == [
        ("field missing", "rows.jsonl, row 5"),
        ("field missing", "rows.jsonl, row 6"),
        ("row is no JSON object", "rows.jsonl, row 3"),
        ("row is not JSON", "rows.jsonl, row 2"),
        ("row is not JSON", "rows.jsonl, row 7"),
    ]


def test_what_a_row_has_instead_is_said(good: Path) -> None:
    (good / "rows.jsonl").write_text('{"title": "no text", "body": 1}\n')
    assert [one.detail for one in read(good)[1]] == ["no text in text; there are title, body"]


def test_a_parquet_with_the_wrong_column_counts_each_of_its_rows(good: Path) -> None:
    (good / "rows.parquet").write_bytes(as_parquet([{"body": "a"}, {"body": "b"}, {"body": "c"}]))
    assert reasons(good) == [("field missing", f"rows.parquet, row {row}") for row in (1, 2, 3)]


@pytest.mark.parametrize("name", ["rows.csv", "rows.json"])
def test_other_tables_with_the_wrong_column_count_each_of_their_rows(good: Path, name: str) -> None:
    content = "body\na\nb\n" if name == "rows.csv" else json.dumps([{"body": "a"}, {"body": "b"}])
    (good / name).write_text(content)
    assert reasons(good) == [("field missing", f"{name}, row {row}") for row in (1, 2)]


def test_a_quote_that_is_never_closed_loses_no_row_silently(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LONGEST_LINE", 1_000)
    rows = ["id,text", "1,first", '2,"never closed', *(f"{n},{'more ' * 9}" for n in range(3, 60))]
    (good / "rows.csv").write_text("\n".join(rows))
    kept, skipped = read(good / "rows.csv")
    assert kept[0].text == "first"
    assert {one.reason for one in skipped} == {"row is not CSV"}
    assert len(kept) > 10  # it goes on behind the field that grew too long


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_very_long_line_is_skipped_without_being_held(good: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = 2**20
    monkeypatch.setattr(text, "LONGEST_LINE", longest)
    head, row = ("text\n", "{}\n") if name == "rows.csv" else ("", '{{"text": "{}"}}\n')
    with open(good / name, "w") as file:
        file.write(head + row.format("before"))
        for _ in range(40):
            file.write("x" * longest)
        file.write("\n" + row.format("after"))
    tracemalloc.start()
    kept, skipped = read(good / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sorted(one.text for one in kept) == ["after", "before"]
    assert [one.reason for one in skipped] == ["line too long"]
    assert peak < 8 * longest


# -- encodings -------------------------------------------------------------------------------------------------------

PROSE = "Der Müller über dem Flüßchen mahlt für Käufer aus größeren Städten, und die Mühle läuft früh und spät. " * 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("name", ["prose.txt", "rows.jsonl", "rows.csv"])
def test_encodings_are_told_by_their_mark_or_their_bytes(tmp_path: Path, encoding: str, name: str) -> None:
    as_json = json.dumps({"text": PROSE}, ensure_ascii=False) + "\n"
    content = {"prose.txt": PROSE, "rows.jsonl": as_json, "rows.csv": f'text\r\n"{PROSE}"\r\n'}[name]
    (tmp_path / name).write_bytes(content.encode(encoding))
    assert texts(tmp_path / name) == [PROSE]


def test_a_line_in_another_encoding_than_its_file_is_counted(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK", 64)
    monkeypatch.setattr(source_files, "BLOCK", 64)
    lines = [json.dumps({"text": f"row {n}"}).encode() for n in range(20)]
    (good / "rows.jsonl").write_bytes(b"\n".join([*lines, '{"text": "café"}'.encode("cp1252"), lines[0]]))
    kept, skipped = read(good / "rows.jsonl")
    assert len(kept) == 21
    assert [(one.reason, one.where) for one in skipped] == [("wrong encoding", "rows.jsonl, row 21")]


@pytest.mark.parametrize("name", ["a.txt", "a.py", "a.html", "a.jsonl", "a.csv", "a.json"])
def test_what_is_no_text_at_all_is_skipped(good: Path, name: str) -> None:
    (good / name).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 50)
    assert reasons(good) == [("no text", name)]


# -- archives --------------------------------------------------------------------------------------------------------


# What is garbled within a zstd frame shows by a checksum only, which not every file has.
@pytest.mark.parametrize(
    ("suffix", "fault"),
    [
        (suffix, fault)
        for suffix in COMPRESSED
        for fault in ("cut off", "never compressed", "garbled")
        if (suffix, fault) != ("zst", "garbled")
    ],
)
def test_a_damaged_compressed_file_keeps_what_came_before(good: Path, suffix: str, fault: str) -> None:
    rng = Random(0)
    rows = b"".join(json.dumps({"text": rng.randbytes(40).hex()}).encode() + b"\n" for _ in range(6_000))
    packed = COMPRESSED[suffix](rows)
    middle = len(packed) // 2
    damaged = {
        "cut off": packed[:middle],
        "never compressed": rows[:1_000],
        "garbled": packed[:middle] + bytes(64) + packed[middle + 64 :],
    }[fault]
    (good / f"rows.jsonl.{suffix}").write_bytes(damaged)
    kept, skipped = read(good / f"rows.jsonl.{suffix}")
    assert skipped[-1].reason == "damaged archive"
    assert bool(kept) == (fault != "never compressed") or suffix in ("bz2", "xz")


@pytest.mark.parametrize("fault", ["cut off", "garbled", "no zip"])
def test_a_damaged_zip_is_counted(good: Path, fault: str) -> None:
    packed = zipped({"a.txt": b"a" * 40, "b.txt": Random(0).randbytes(500).hex().encode(), "c.txt": b"c" * 40})
    middle = len(packed) // 2
    damaged = {
        "cut off": packed[:middle],
        "garbled": packed[:middle] + bytes(16) + packed[middle + 16 :],
        "no zip": b"PK not really",
    }[fault]
    (good / "a.zip").write_bytes(damaged)
    kept, skipped = read(good / "a.zip")
    assert {one.reason for one in skipped} == {"damaged archive"}
    assert len(kept) == (2 if fault == "garbled" else 0)  # the members beside it are whole


@pytest.mark.parametrize("fault", ["cut in a member", "cut in a header", "garbled header", "no tar"])
def test_a_damaged_tar_is_counted(good: Path, fault: str) -> None:
    packed = tarred({"a.txt": b"first", "b.txt": b"second" * 200})
    damaged = {
        "cut in a member": packed[: 3 * 512 + 100],
        "cut in a header": packed[: 2 * 512 + 100],
        "garbled header": packed[: 2 * 512] + Random(0).randbytes(512) + packed[3 * 512 :],
        "no tar": b"nothing like a tar" * 100,
    }[fault]
    (good / "a.tar").write_bytes(damaged)
    kept, skipped = read(good / "a.tar")
    assert {one.reason for one in skipped} == {"damaged archive"}
    assert [one.text for one in kept] == ([] if fault == "no tar" else ["first"])


def bomb(megabytes: int) -> bytes:
    return b"all work and no play\n" * (megabytes * 2**20 // 21)


@pytest.mark.parametrize("packing", ["gz", "zst", "zip", "tar.gz", "zip in zip"])
def test_a_bomb_is_stopped_where_it_has_grown_too_much(
    good: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_FREE_BYTES", 2**20)
    content = bomb(20)
    packed = {
        "gz": lambda: gzip.compress(content),
        "zst": lambda: zstd(content),
        "zip": lambda: zipped({"a.txt": content, "b.txt": content}),
        "tar.gz": lambda: gzip.compress(tarred({"a.txt": content})),
        "zip in zip": lambda: zipped({"b.zip": zipped({"a.txt": content})}),
    }[packing]()
    name = f"a.txt.{packing}" if packing in COMPRESSED else f"a.{packing.split()[0]}"
    (good / name).write_bytes(packed)
    kept, skipped = read(good / name)
    assert [(one.reason, one.where) for one in skipped] == [("archive unpacks to too much", name)]
    assert sum(len(one.text) for one in kept) <= archives.LARGEST_RATIO * len(packed) + 2**20


def test_nothing_of_an_archive_is_taken_from_elsewhere(good: Path) -> None:
    unsafe = ["../../etc/passwd.txt", "/etc/passwd.txt", "a/../../b.txt", "C:\\secret.txt", "..\\x.txt"]
    (good / "a.zip").write_bytes(zipped({"fine.txt": b"fine"} | dict.fromkeys(unsafe, b"text")))
    (good / "b.tar").write_bytes(tarred({"fine.txt": b"fine"} | dict.fromkeys(unsafe, b"text")))
    kept, skipped = read(good)
    assert [one.text for one in kept].count("fine") == 2
    assert [one.reason for one in skipped] == ["unsafe path in an archive"] * 2 * len(unsafe)


def test_links_in_archives_lead_nowhere(good: Path) -> None:
    secret = good.parent / "secret.txt"
    secret.write_text("secret")
    with tarfile.open(good / "a.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"link{kind.decode()}.txt")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
    with zipfile.ZipFile(good / "a.zip", "w") as packed:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, str(secret))
    assert texts(good) == ["good"]
    assert [reason for reason, _ in reasons(good)] == ["link in an archive"] * 4


def test_an_encrypted_member_is_counted_and_the_others_read(good: Path) -> None:
    packed = bytearray(zipped({"open.txt": b"open", "shut.txt": b"shut"}))
    # The bit that says a member is encrypted, in its entry of the directory.
    entry = packed.index(b"PK\x01\x02", packed.index(b"PK\x01\x02") + 1)
    packed[entry + 8] |= 1
    (good / "a.zip").write_bytes(bytes(packed))
    assert sorted(texts(good)) == ["good", "open"]
    assert reasons(good) == [("encrypted", "a.zip/shut.txt")]


def test_archives_are_opened_once_within_another(good: Path) -> None:
    inner = zipped({"deep.txt": b"too deep"})
    (good / "a.zip").write_bytes(zipped({"b.zip": zipped({"c.zip": inner, "here.txt": b"here"})}))
    assert sorted(texts(good)) == ["good", "here"]
    assert reasons(good) == [("archive nested too deep", "a.zip/b.zip/c.zip")]


def test_a_damaged_parquet_is_counted(good: Path) -> None:
    packed = as_parquet(ROWS)
    (good / "a.parquet").write_bytes(packed[: len(packed) // 2])
    (good / "b.parquet").write_bytes(packed[:8] + bytes(60) + packed[68:])
    found = reasons(good)
    assert ("damaged table", "a.parquet") in found
    assert ("damaged table", "b.parquet") in found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_garbling_ends_the_reading(data: st.DataObject) -> None:
    """Whatever bytes of a file are changed or lost: everything that comes out is a record or a skip."""
    originals = {
        "a.zip": zipped({"a.jsonl": JSONL, "b.txt": b"text"}),
        "a.tar": tarred({"a.jsonl": JSONL, "b.txt": b"text"}),
        "a.jsonl.gz": gzip.compress(JSONL),
        "a.jsonl.zst": zstd(JSONL),
        "a.parquet": as_parquet(ROWS),
    }
    name = data.draw(st.sampled_from(sorted(originals)))
    content = bytearray(originals[name])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(content)
        kept, skipped = read(Path(folder, name))
    assert kept or skipped


# -- folders ---------------------------------------------------------------------------------------------------------


def test_what_lies_in_a_folder_unread_is_counted(good: Path) -> None:
    for name in ("picture.png", ".hidden.txt", ".git/config.txt", "__pycache__/a.py", "empty.txt"):
        (good / name).parent.mkdir(exist_ok=True)
        (good / name).write_bytes(b"" if name == "empty.txt" else b"x")
    (good / "loop").symlink_to(good)
    (good / "nowhere.txt").symlink_to(good / "missing.txt")
    (good / "linked.txt").symlink_to(good / "good.txt")
    os.mkfifo(good / "pipe.txt")
    assert texts(good) == ["good", "good"]
    assert reasons(good) == [
        ("file cannot be read", "nowhere.txt"),
        ("file is empty", "empty.txt"),
        ("hidden or generated", ".git"),
        ("hidden or generated", ".hidden.txt"),
        ("hidden or generated", "__pycache__"),
        ("kind of file not read", "picture.png"),
        ("link to a folder", "loop"),
        ("no regular file", "pipe.txt"),
    ]


def test_a_file_that_vanishes_or_shrinks_before_it_is_read_is_counted(good: Path) -> None:
    (good / "gone.jsonl").write_bytes(JSONL)
    (source,) = opened(good)
    (good / "gone.jsonl").unlink()
    found = list(all_of(source))
    skipped = [one for one in found if isinstance(one, Skipped)]
    assert [(one.reason, one.where) for one in skipped] == [("file cannot be read", "gone.jsonl")]
    assert len(found) == 2


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Root may read everything; for the time being this process is nobody."""
    user, nobody = os.geteuid(), 65534
    os.seteuid(user or nobody)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_may_not_be_read_is_counted() -> None:
    # Not tmp_path: nobody may not enter it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "corpus")
        (folder / "shut").mkdir(parents=True)
        for file in ("good.txt", "secret.txt", "shut/a.txt"):
            (folder / file).write_text(file)
        Path(name).chmod(0o755)
        (folder / "secret.txt").chmod(0)
        (folder / "shut").chmod(0)
        try:
            with without_roots_rights():
                assert texts(folder) == ["good.txt"]
                assert reasons(folder) == [("file cannot be read", "secret.txt"), ("folder cannot be read", "shut")]
        finally:
            (folder / "shut").chmod(0o755)


def test_an_empty_folder_or_one_of_pictures_is_refused_at_once(tmp_path: Path) -> None:
    for name in ("empty", "pictures"):
        (tmp_path / name).mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\x89PNG")
    for name in ("empty", "pictures"):
        with pytest.raises(ValueError, match=f"{name} holds no file of a kind that is read"):
            opened(tmp_path / name)


def test_memory_does_not_grow_with_a_compressed_file(good: Path) -> None:
    with gzip.open(good / "rows.jsonl.gz", "wt", compresslevel=1) as file:
        for n in range(4_000):
            file.write(json.dumps({"text": f"{n} {'text ' * 1_000}"}) + "\n")
    (source,) = opened(good / "rows.jsonl.gz")
    tracemalloc.start()
    count = sum(1 for _ in all_of(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4_000
    assert peak < 4 * 2**20


def test_a_stream_in_another_shape_reads_as_bytes() -> None:
    stream = io.BufferedReader(text.Utf8(io.BufferedReader(io.BytesIO("zwölf\nBoxkämpfer".encode("utf-16"))), "utf-16"))
    assert stream.read() == "zwölf\nBoxkämpfer".encode()


def test_a_range_looks_for_its_first_line_no_further_than_its_end(tmp_path: Path) -> None:
    """Else a long line would be read again by each range that it fills."""
    stream = io.BytesIO(b"x" * 2**22)
    skipped = text.skip_line(stream, 1_000)
    assert 1_000 <= skipped == stream.tell() <= 1_000 + text.BLOCK

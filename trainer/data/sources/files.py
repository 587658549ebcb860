"""One file of any kind as records, whether it lies in a folder or in an archive."""

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow
from pyarrow import parquet

from trainer.data.sources import licences
from trainer.data.sources.archives import DAMAGED, Budget, Member, TooMuch, decompressed, members, seekable
from trainer.data.sources.base import Found, Meter, Skipped, Unit, Unreadable, domain_of, record
from trainer.data.sources.documents import decode_html, html_licence, html_text, pdf_text
from trainer.data.sources.kinds import Kind, is_left_out, kind_of, language_of
from trainer.data.sources.licences import LICENCE_FILE, Licences
from trainer.data.sources.rows import RowReader
from trainer.data.sources.tables import (
    read_csv,
    read_json,
    read_jsonl,
    read_jsonl_range,
    read_parquet,
    row_groups,
)
from trainer.data.sources.text import BLOCK, decode, encoding_of, pieces, skip_line
from trainer.spec import Domain, Record

CUT_ABOVE = 16 * 2**20  # bytes; larger JSON Lines and Parquet files are several units
LARGEST_DOCUMENT = 64 * 2**20  # bytes; HTML, PDF and code are read as a whole
LARGEST_TEXT = 4 * 2**20  # bytes; longer plain text becomes several records
_DEEPEST_ARCHIVE = 2  # one in another


@dataclass(frozen=True)
class Reading:
    """What the files of a source are read with."""

    rows: RowReader
    licences: Licences = field(default_factory=Licences)

    @property
    def source(self) -> str:
        return self.rows.source


class _Metered(io.FileIO):
    def __init__(self, path: Path, meter: Meter) -> None:
        super().__init__(path)
        self._meter = meter

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        count = super().readinto(buffer) or 0
        self._meter.bytes += count
        return count


def _open(path: Path, meter: Meter) -> io.BufferedReader:
    meter.bytes = 0
    return io.BufferedReader(_Metered(path, meter), BLOCK)


# -- a file on disk --------------------------------------------------------------------------------------------------


def file_units(path: Path, name: str, reading: Reading) -> list[Unit]:
    """A file as one unit, or as several where it can be cut; what is wrong with it comes out when it is read."""
    try:
        found = path.stat()
    except OSError as error:
        return [_skipping(reading, name, 0, Skipped("file cannot be read", name, str(error.strerror)))]
    if not stat.S_ISREG(found.st_mode):
        return [_skipping(reading, name, 0, Skipped("no regular file", name))]
    if kind_of(name) is None:
        return [_skipping(reading, name, found.st_size, Skipped("kind of file not read", name))]
    if found.st_size > CUT_ABOVE:
        cut = _cut(path, name, found.st_size, reading)
        if len(cut) > 1:
            return cut
    meter = Meter()
    return [Unit(reading.source, name, found.st_size, partial(_whole, path, name, reading, meter), meter)]


def _skipping(reading: Reading, name: str, size: int, skipped: Skipped) -> Unit:
    return Unit(reading.source, name, size, lambda: iter([skipped]))


def _whole(path: Path, name: str, reading: Reading, meter: Meter) -> Iterator[Found]:
    def read() -> Iterator[Found]:
        with _open(path, meter) as stream:
            yield from read_stream(Member(name, stream), reading, Budget(os.fstat(stream.fileno()).st_size))

    return guarded(name, read())


def guarded(name: str, found: Iterator[Found], in_archive: bool = False) -> Iterator[Found]:
    """What a reader yields; where it cannot go on, the rest of the file is skipped and counted.

    Raises:
        TooMuch: in an archive, all of which is given up then.
    """
    try:
        yield from found
    except Unreadable as error:
        if in_archive and isinstance(error, TooMuch):
            raise
        yield Skipped(error.reason, name, error.detail)
    except DAMAGED as error:
        yield Skipped("damaged archive", name, str(error))
    except OSError as error:
        # Readers of archives raise it without a number where the system would give one.
        yield Skipped("damaged archive" if error.errno is None else "file cannot be read", name, str(error))


def _cut(path: Path, name: str, size: int, reading: Reading) -> list[Unit]:
    try:
        match kind_of(name):
            case "jsonl" if _is_utf8(path):
                return [
                    _range_unit(path, name, start, min(start + CUT_ABOVE, size), reading)
                    for start in range(0, size, CUT_ABOVE)
                ]
            case "parquet":
                return _group_units(path, name, size, reading)
    except (OSError, pyarrow.ArrowException, Unreadable):
        pass  # said when it is read, as one unit
    return []


def _is_utf8(path: Path) -> bool:
    with open(path, "rb") as file:
        return encoding_of(file.read(BLOCK), whole=False) == "utf-8"


def _range_unit(path: Path, name: str, start: int, end: int, reading: Reading) -> Unit:
    meter = Meter()

    def read() -> Iterator[Found]:
        with _open(path, meter) as stream:
            position = start
            if start:
                stream.seek(start - 1)
                # No further than the range: a line longer than it belongs to one before.
                position += skip_line(stream, end - start + 1) - 1
            yield from read_jsonl_range(stream, name, position, end, reading.rows, reading.licences.of(name))

    return Unit(reading.source, f"{name}[{start}:{end}]", end - start, lambda: guarded(name, read()), meter)


def _group_units(path: Path, name: str, size: int, reading: Reading) -> list[Unit]:
    with parquet.ParquetFile(path) as table:
        counts = row_groups(table)

    def unit(group: int) -> Unit:
        def read() -> Iterator[Found]:
            yield from read_parquet(path, name, reading.rows, reading.licences.of(name), [group])

        bytes_ = size * counts[group] // max(sum(counts), 1)
        return Unit(reading.source, f"{name}[{group}]", bytes_, lambda: guarded(name, read()))

    return [unit(group) for group in range(len(counts))]


# -- a stream of bytes with a name -----------------------------------------------------------------------------------


def read_stream(file: Member, reading: Reading, budget: Budget, depth: int = 0) -> Iterator[Found]:
    """Records of a file or of what is packed in it.

    Args:
        depth: in how many archives it lies.

    Raises:
        Unreadable, OSError, one of DAMAGED: as `guarded` turns them into skips.
    """
    kind = kind_of(file.called)
    match kind:
        case None:
            yield Skipped("kind of file not read", file.name)
        case "compressed":
            yield from read_stream(decompressed(file, budget), reading, budget, depth)
        case "zip" | "tar" if depth == _DEEPEST_ARCHIVE:
            yield Skipped("archive nested too deep", file.name)
        case "zip" | "tar":
            yield from _archive(kind, file, reading, budget, depth + 1)
        case _:
            yield from _content(kind, file, reading)


def _archive(kind: Kind, file: Member, reading: Reading, budget: Budget, depth: int) -> Iterator[Found]:
    # What one archive says of licences is of no other, nor of a second reading of this one.
    reading = replace(reading, licences=reading.licences.copy())
    for member in members(kind, file.stream, budget):
        inner = f"{file.name}/{member.where if isinstance(member, Skipped) else member.name}"
        if isinstance(member, Skipped):
            yield Skipped(member.reason, inner, member.detail)
        elif any(is_left_out(part) for part in PurePosixPath(member.name).parts):
            yield Skipped("hidden or generated", inner)
        else:
            found = read_stream(Member(inner, member.stream), reading, budget, depth)
            yield from guarded(inner, found, in_archive=True)


def _content(kind: Kind, file: Member, reading: Reading) -> Iterator[Found]:
    name, stream, rows = file.name, file.stream, reading.rows
    license = reading.licences.of(name)
    match kind:
        case "jsonl":
            yield from read_jsonl(stream, name, rows, license)
        case "json":
            yield from read_json(stream, name, rows, license)
        case "csv":
            yield from read_csv(stream, name, rows, license)
        case "parquet":
            with seekable(stream) as table:
                yield from read_parquet(table, name, rows, license)
        case "text":
            yield from _text(file, reading)
        case _:
            yield _document(kind, file, reading)


def _text(file: Member, reading: Reading) -> Iterator[Found]:
    """Plain text, long ones as several records."""
    number = 0
    for number, piece in enumerate(pieces(file.stream, LARGEST_TEXT), start=1):
        text = decode(piece)
        if number == 1 and LICENCE_FILE.match(PurePosixPath(file.called).name):
            reading.licences.add(file.name, text)
        part = number if number > 1 or len(piece) > LARGEST_TEXT // 2 else 0
        yield _record(text, file.name, reading, domain_of(text), part=part)
    if number == 0:
        raise Unreadable("file is empty")


def _document(kind: Kind, file: Member, reading: Reading) -> Record:
    data = file.stream.read(LARGEST_DOCUMENT + 1)
    if len(data) > LARGEST_DOCUMENT:
        raise Unreadable("file too large", f"more than {LARGEST_DOCUMENT} bytes")
    match kind:
        case "pdf":
            text = pdf_text(io.BytesIO(data))
            return _record(text, file.name, reading, domain_of(text))
        case "html":
            html = decode_html(data)
            text = html_text(html)
            licence = licences.of_text(html_licence(html))
            return _record(text, file.name, reading, domain_of(text), license=licence)
    assert kind == "code"
    return _record(decode(data), file.name, reading, "code", language_of(file.called))


def _record(
    text: str, name: str, reading: Reading, domain: Domain, language: str = "", license: str = "", part: int = 0
) -> Record:
    license = licences.of_header(text) or license or reading.licences.of(name)
    meta = {"path": name} | ({"part": part} if part else {}) | ({"license": license} if license else {})
    return record(text, reading.source, domain, language, **meta)

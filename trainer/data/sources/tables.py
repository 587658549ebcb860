"""Files of rows, one row at a time: JSON Lines, JSON, CSV and Parquet."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow
from pyarrow import parquet

from trainer.data.sources.base import Found, Skipped, Unreadable
from trainer.data.sources.rows import RowReader
from trainer.data.sources.text import LONGEST_LINE, decode, lines, prepared

LARGEST_JSON = 64 * 2**20  # bytes; a JSON file is read as a whole
_BATCH_ROWS = 64


def read_jsonl(stream: io.BufferedReader, name: str, rows: RowReader, license: str) -> Iterator[Found]:
    """Raises: Unreadable: the file is no text."""
    stream, encoding = prepared(stream)
    for number, (_, line) in enumerate(lines(stream), start=1):
        yield from _line(line, encoding, name, rows, license, row=number)


def read_jsonl_range(
    stream: io.BufferedReader, name: str, start: int, end: int, rows: RowReader, license: str
) -> Iterator[Found]:
    """Lines that begin at bytes from `start` to before `end`; the stream stands where the first of them begins.

    Raises:
        Unreadable: the file is no text.
    """
    encoding = prepared(stream)[1]
    for position, line in lines(stream, start, end):
        yield from _line(line, encoding, name, rows, license, byte=position)


def _line(line: bytes | None, encoding: str, name: str, rows: RowReader, license: str, **place: int) -> Iterator[Found]:
    where = ", ".join([name, *(f"{kind} {number}" for kind, number in place.items())])
    if line is None:
        yield Skipped("line too long", where, f"more than {LONGEST_LINE} bytes")
        return
    if not line.strip():
        return
    try:
        row = json.loads(line.decode(encoding))
    except UnicodeDecodeError as error:
        yield Skipped("wrong encoding", where, str(error))
    except (ValueError, RecursionError) as error:
        yield Skipped("row is not JSON", where, str(error))
    else:
        yield rows.read(row, name, license, **place)


def read_json(stream: BinaryIO, name: str, rows: RowReader, license: str) -> Iterator[Found]:
    """A JSON file: a list of rows, or one row.

    Raises:
        Unreadable: it is too large, no text or no JSON.
    """
    data = stream.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise Unreadable("file too large", f"JSON of more than {LARGEST_JSON} bytes; write it as JSON Lines")
    try:
        found = json.loads(decode(data))
    except (ValueError, RecursionError) as error:
        raise Unreadable("file is not JSON", str(error)) from error
    for number, row in enumerate(found if isinstance(found, list) else [found], start=1):
        yield rows.read(row, name, license, row=number)


def read_csv(stream: io.BufferedReader, name: str, rows: RowReader, license: str) -> Iterator[Found]:
    """Rows below a line of column names; fields are set off by the sign that this line has: tab, semicolon or comma.

    Raises:
        Unreadable: the file is no text or has no such line.
    """
    # The limit is the process's; the library's own would refuse fields as long as documents are.
    csv.field_size_limit(LONGEST_LINE)
    stream, encoding = prepared(stream)
    skipped: list[Skipped] = []
    texts = _decoded(lines(stream), encoding, name, skipped)
    head = next(texts, "")
    if not head.strip():
        raise Unreadable("field missing", "there is no line of column names")
    delimiter = max("\t;,", key=head.count)
    table = csv.reader(texts, delimiter=delimiter)
    columns = next(csv.reader([head], delimiter=delimiter))
    for number, cells in _counted(table, name, skipped):
        yield from skipped
        skipped.clear()
        if cells:
            yield rows.read(dict(zip(columns, cells, strict=False)), name, license, row=number)
    yield from skipped


def _counted(table: Iterator[list[str]], name: str, skipped: list[Skipped]) -> Iterator[tuple[int, list[str]]]:
    """Rows with their numbers; after one that is no CSV the reader goes on with the next line."""
    number = 0
    while True:
        number += 1
        try:
            cells = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            skipped.append(Skipped("row is not CSV", f"{name}, row {number}", str(error)))
            cells = []
        yield number, cells


def _decoded(
    found: Iterable[tuple[int, bytes | None]], encoding: str, name: str, skipped: list[Skipped]
) -> Iterator[str]:
    for position, line in found:
        where = f"{name}, byte {position}"
        if line is None:
            skipped.append(Skipped("line too long", where, f"more than {LONGEST_LINE} bytes"))
            continue
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            skipped.append(Skipped("wrong encoding", where, str(error)))


def read_parquet(
    file: Any, name: str, rows: RowReader, license: str, groups: Iterable[int] | None = None
) -> Iterator[Found]:
    """Rows of some row groups, by default all.

    Args:
        file: a path, or a stream that can seek.

    Raises:
        Unreadable: it is no Parquet, or damaged.
    """
    try:
        with parquet.ParquetFile(file) as table:
            sizes = row_groups(table)
            for group in range(len(sizes)) if groups is None else groups:
                yield from _group(table, group, sum(sizes[:group]) + 1, name, rows, license)
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise  # the system's, not the reader's
        raise Unreadable("damaged table", " ".join(str(error).split())) from error


def row_groups(table: parquet.ParquetFile) -> list[int]:
    """How many rows each row group has."""
    return [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]


def _group(
    table: parquet.ParquetFile, group: int, first: int, name: str, rows: RowReader, license: str
) -> Iterator[Found]:
    columns = [column for column in table.schema_arrow.names if column in rows.columns]
    if not columns:
        # Every row is accounted for, though none need be read.
        there = ", ".join(table.schema_arrow.names[:12])
        for number in range(table.metadata.row_group(group).num_rows):
            yield Skipped("field missing", f"{name}, row {first + number}", f"there are {there}")
        return
    number = first
    for batch in table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
        for row in batch.to_pylist():
            yield rows.read(row, name, license, row=number)
            number += 1

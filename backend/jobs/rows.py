"""Rows of JSON Lines files of any size: each found by its number in a moment, a search bounded in time."""

import json
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
MAX_ROWS = 500
SCAN_SECONDS = 1.0


@dataclass(frozen=True)
class Lines:
    """A file whose lines are found by number. `before[b]` line ends lie before its block b; the last entry is all.

    A last line without an end is still being written: it does not exist yet.
    """

    path: Path
    before: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "Lines":
        stat = path.stat()
        return _lines(path, stat.st_size, stat.st_mtime_ns)

    def since(self, number: int) -> Iterator[bytes]:
        """The lines from the one of that number on."""
        with open(self.path, "rb") as file:
            file.seek(self._start(number))
            yield from (line for line in file if line.endswith(b"\n"))

    def _start(self, number: int) -> int:
        """Where a line starts, in bytes: behind the `number`-th line end."""
        if number == 0:
            return 0
        block = bisect_left(self.before, number) - 1
        with open(self.path, "rb") as file:
            file.seek(block * BLOCK)
            data = file.read(BLOCK)
        place = -1
        for _ in range(number - self.before[block]):
            place = data.index(b"\n", place + 1)
        return block * BLOCK + place + 1


@lru_cache(maxsize=256)
def _lines(path: Path, size: int, changed: int) -> Lines:
    """One pass over the file. Size and time of change belong to the key: a file that grew is counted anew."""
    with open(path, "rb") as file:
        counts = [data.count(b"\n") for data in iter(lambda: file.read(BLOCK), b"")]
    return Lines(path, tuple(accumulate(counts, initial=0)))


class Rows:
    """The rows of several files, one after the other, numbered from 0."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [Lines.of(path) for path in paths]
        self.total = sum(file.before[-1] for file in self._files)

    def since(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Number and line of every row from that one on."""
        first = 0
        for file in self._files:
            count = file.before[-1]
            if number < first + count:
                start = max(number - first, 0)
                yield from zip(range(first + start, first + count), file.since(start), strict=False)
            first += count

    def row(self, number: int) -> Any:
        """Raises: IndexError: there are fewer rows."""
        for _, line in self.since(number):
            return json.loads(line)
        raise IndexError(f"there is no row {number}; there are {self.total}")


@dataclass(frozen=True)
class Wanted:
    """Which rows: those with a value that contains `search` (any case), and with these values of fields."""

    search: str = ""
    where: tuple[tuple[str, str], ...] = ()

    def hints(self) -> tuple[bytes, ...]:
        """What a wanted row's line must contain in lower case; a line without it need not be parsed.

        Writers of JSON agree on how printable ASCII is written, and on nothing else.
        """
        texts = (self.search, *(value for _, value in self.where))
        return tuple(
            json.dumps(text)[1:-1].lower().encode() for text in texts if text and text.isascii() and text.isprintable()
        )

    def accepts(self, row: Any) -> bool:
        fields = row if isinstance(row, dict) else {}
        return all(str(fields.get(name)) == value for name, value in self.where) and (
            not self.search or _says(row, self.search.casefold())
        )


def _says(value: Any, needle: str) -> bool:
    if isinstance(value, dict | list):
        return any(_says(item, needle) for item in (value.values() if isinstance(value, dict) else value))
    return needle in str(value).casefold()


@dataclass(frozen=True)
class Page:
    """Rows that were wanted with their numbers, how many there are in all, wanted or not, and where to look on."""

    rows: list[Any]
    numbers: list[int]
    total: int
    next: int | None


def page(rows: Rows, offset: int, limit: int, wanted: Wanted, seconds: float = SCAN_SECONDS) -> Page:
    """The first `limit` wanted rows from number `offset` on, or those found within `seconds`.

    `next` is the number to go on from, None once every row was looked at.
    """
    deadline, hints = time.monotonic() + seconds, wanted.hints()
    found: dict[int, Any] = {}
    following = rows.total
    for number, line in rows.since(offset):
        lower = line.lower() if hints else b""
        if all(hint in lower for hint in hints) and wanted.accepts(row := json.loads(line)):
            found[number] = row
        if len(found) == limit or time.monotonic() > deadline:
            following = number + 1
            break
    return Page(list(found.values()), list(found), rows.total, following if following < rows.total else None)

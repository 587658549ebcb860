"""Lay pieces of token ids out in rows of `context` tokens, with the arrays of docs/architecture.md.

Which piece comes where is decided from their lengths alone, in two ways: `running_rows` lays pieces end to end and cuts
them at row ends (text: rows are full); `whole_rows` never cuts a piece (chats: best fit). Every token of every piece is
in exactly one row. The tokens themselves are fetched when rows are written, some at a time.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

TYPES = {"tokens": np.int32, "segments": np.int32, "loss_mask": np.bool_, "domains": np.int8, "structure": np.int8}
ARRAYS = tuple(TYPES)
ORIGINS = "origins.jsonl"
# What is known of a token besides its piece.
TOKEN = np.dtype([(name, TYPES[name]) for name in ("tokens", "loss_mask", "structure")])
_WRITTEN_AT_ONCE = 1 << 20  # tokens


class Part(NamedTuple):
    """`length` tokens of an item, which are its tokens from `start` on."""

    item: int
    start: int
    length: int


@dataclass(frozen=True)
class Piece:
    """One document or chat: ids, which of them count as targets, the index of its domain, the structure label of each
    token, where there are any, and the items that it is made of, one after the other."""

    ids: Sequence[int]
    counts: Sequence[bool]
    domain: int
    structure: Sequence[int] | None = None
    parts: tuple[Part, ...] = ()

    def tokens(self) -> NDArray[np.void]:
        """An array [length] of `TOKEN`."""
        tokens = np.empty(len(self.ids), dtype=TOKEN)
        tokens["tokens"], tokens["loss_mask"] = self.ids, self.counts
        tokens["structure"] = -1 if self.structure is None else self.structure
        return tokens


class Slice(NamedTuple):
    """Tokens `start` to `stop` of a piece."""

    piece: int
    start: int
    stop: int


Row = list[Slice]


class Held(NamedTuple):
    """What a slice holds: tokens [stop - start] of `TOKEN`, the index of their domain, and the items they are of."""

    tokens: NDArray[np.void]
    domain: int
    parts: Sequence[Part]


Fetch = Callable[[Slice], Held]


def running_rows(slices: Iterable[Slice], context: int) -> Iterator[Row]:
    """End to end; a piece that meets the end of a row goes on in the next as a segment of its own."""
    row: Row = []
    free = context
    for piece, start, stop in slices:
        while start < stop:
            end = min(stop, start + free)
            row.append(Slice(piece, start, end))
            free -= end - start
            start = end
            if free == 0:
                yield row
                row, free = [], context
    if row:
        yield row


def whole_rows(lengths: NDArray[np.int64], context: int) -> NDArray[np.int64]:
    """The row of each piece: the longest first, each into the row that it leaves least space in (best fit decreasing,
    Johnson 1973). Pieces must be no longer than `context`."""
    row_of = np.empty(len(lengths), dtype=np.int64)
    open_rows: list[list[int]] = [[] for _ in range(context + 1)]  # by free space
    has_open, count = 0, 0  # bit n: some row has n places free
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        assert 0 < length <= context, f"a piece of {length} tokens does not fit a row of {context}"
        fitting = has_open >> length
        if fitting:
            free = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[free].pop()
            has_open &= ~(1 << free) if not open_rows[free] else -1
        else:
            free, row, count = context, count, count + 1
        row_of[piece] = row
        open_rows[free - length].append(row)
        has_open |= 1 << (free - length)
    return row_of


def rows_of_whole(lengths: NDArray[np.int64], context: int, order: Callable[[int], NDArray[np.int64]]) -> Iterator[Row]:
    """The rows of `whole_rows` in the order that `order` gives for their number."""
    row_of = whole_rows(lengths, context)
    by_row = np.argsort(row_of, kind="stable")
    count = int(row_of.max()) + 1 if len(row_of) else 0
    borders = np.searchsorted(row_of[by_row], np.arange(count + 1))
    for row in order(count).tolist():
        pieces = by_row[borders[row] : borders[row + 1]].tolist()
        yield [Slice(piece, 0, int(lengths[piece])) for piece in pieces]


@dataclass(frozen=True)
class Packed:
    """Arrays [rows, context]: tokens and segments int32, loss_mask bool, domains and structure int8 (-1 for none)."""

    tokens: NDArray[np.int32]
    segments: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    domains: NDArray[np.int8]
    structure: NDArray[np.int8]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Held]], context: int, pad_id: int) -> "Packed":
        padding = {"tokens": pad_id, "segments": 0, "loss_mask": False, "domains": -1, "structure": -1}
        packed = cls(**{name: np.full((len(rows), context), padding[name], dtype=TYPES[name]) for name in ARRAYS})
        for number, row in enumerate(rows):
            place = 0
            for segment, held in enumerate(row, start=1):
                span = slice(place, place + len(held.tokens))
                for name in TOKEN.names or ():
                    getattr(packed, name)[number, span] = held.tokens[name]
                packed.segments[number, span] = segment
                packed.domains[number, span] = held.domain
                place = span.stop
        return packed


@dataclass
class Count:
    """How many rows, their places, and the tokens and targets they hold."""

    rows: int = 0
    places: int = 0
    tokens: int = 0
    targets: int = 0

    @property
    def fill(self) -> float:
        """Share of the places that hold a token; 1 where there are no rows."""
        return self.tokens / self.places if self.places else 1.0

    def add(self, packed: Packed) -> None:
        self.rows += len(packed.tokens)
        self.places += packed.tokens.size
        self.tokens += int((packed.segments > 0).sum())
        self.targets += int(packed.loss_mask.sum())


def write_rows(
    folder: Path, rows: Iterable[Row], fetch: Fetch, context: int, pad_id: int, name_of: Callable[[int], dict[str, str]]
) -> Count:
    """Write rows and, a line each, what they hold (`ORIGINS`), a million tokens at a time.

    Args:
        name_of: the `id` and `kind` of an item, for the line.
    """
    folder.mkdir(parents=True)
    count, iterator = Count(), iter(rows)
    with ExitStack() as stack:
        files = {name: stack.enter_context(_Npy(folder / f"{name}.npy", TYPES[name], context)) for name in ARRAYS}
        origins = stack.enter_context(open(folder / ORIGINS, "w", encoding="utf-8"))
        while some := list(islice(iterator, max(1, _WRITTEN_AT_ONCE // context))):
            held = [[fetch(part) for part in row] for row in some]
            packed = Packed.of(held, context, pad_id)
            for number, row in enumerate(held, start=count.rows):
                origins.write(_origin(number, row, name_of))
            for name, file in files.items():
                file.append(getattr(packed, name))
            count.add(packed)
    return count


def _origin(number: int, row: Sequence[Held], name_of: Callable[[int], dict[str, str]]) -> str:
    pieces = [{**name_of(part.item), "start": part.start, "length": part.length} for held in row for part in held.parts]
    return json.dumps({"row": number, "pieces": pieces}, ensure_ascii=False) + "\n"


class _Npy:
    """A .npy file of [rows, context] that grows; its header, which has room for any number, is written again at the
    end."""

    def __init__(self, path: Path, kind: type[np.generic], context: int) -> None:
        self._path, self._type, self._context, self._rows = path, np.dtype(kind), context, 0

    def __enter__(self) -> "_Npy":
        self._file: IO[bytes] = open(self._path, "wb")
        self._write_header()
        return self

    def append(self, rows: NDArray[np.generic]) -> None:
        self._rows += len(rows)
        rows.tofile(self._file)

    def __exit__(self, *_: object) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        shape = (self._rows, self._context)
        description = {"descr": np.lib.format.dtype_to_descr(self._type), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, description)

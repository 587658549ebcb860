"""Pack pieces of token ids into rows of `context` tokens, with the arrays of docs/architecture.md.

Two ways: `pack_running` lays pieces end to end and cuts them at row ends (text: rows are full); `pack_whole` never
cuts a piece (chats: best fit). Every token of every piece is in exactly one row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ARRAYS = ("tokens", "segments", "loss_mask", "domains", "structure")


@dataclass(frozen=True)
class Piece:
    """One document or chat: ids, which of them count as targets, the index of its domain, and the structure label of
    each token, where there are any."""

    ids: Sequence[int]
    counts: Sequence[bool]
    domain: int
    structure: Sequence[int] | None = None


@dataclass(frozen=True)
class Slice:
    piece: Piece
    start: int
    stop: int


Row = list[Slice]


@dataclass(frozen=True)
class Packed:
    """Arrays [rows, context]: tokens and segments int32, loss_mask bool, domains and structure int8 (-1 for none)."""

    tokens: NDArray[np.int32]
    segments: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    domains: NDArray[np.int8]
    structure: NDArray[np.int8]

    @property
    def used(self) -> int:
        """How many places hold a token."""
        return int((self.segments > 0).sum())

    @property
    def fill(self) -> float:
        """Share of the places that hold a token; 1 where there are no rows."""
        return self.used / self.segments.size if self.segments.size else 1.0

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))


def pack_running(pieces: Iterable[Piece], context: int, pad_id: int) -> Packed:
    """End to end; a piece that meets the end of a row goes on in the next as a segment of its own."""
    rows: list[Row] = []
    free = 0
    for piece in pieces:
        start = 0
        while start < len(piece.ids):
            if free == 0:
                rows.append([])
                free = context
            stop = min(len(piece.ids), start + free)
            rows[-1].append(Slice(piece, start, stop))
            free -= stop - start
            start = stop
    return _arrays(rows, context, pad_id)


def pack_whole(pieces: Iterable[Piece], context: int, pad_id: int) -> Packed:
    """Each piece into the open row that it leaves least space in; pieces must be no longer than `context`."""
    rows: list[Row] = []
    open_rows: list[list[int]] = [[] for _ in range(context + 1)]  # by free space
    has_open = 0  # bit n: some row has n places free
    for piece in pieces:
        length = len(piece.ids)
        assert 0 < length <= context, f"a piece of {length} tokens does not fit a row of {context}"
        fitting = has_open >> length
        if fitting:
            free = length + (fitting & -fitting).bit_length() - 1
            row = open_rows[free].pop()
            has_open &= ~(1 << free) if not open_rows[free] else -1
        else:
            free, row = context, len(rows)
            rows.append([])
        rows[row].append(Slice(piece, 0, length))
        open_rows[free - length].append(row)
        has_open |= 1 << (free - length)
    return _arrays(rows, context, pad_id)


def _arrays(rows: Sequence[Row], context: int, pad_id: int) -> Packed:
    shape = (len(rows), context)
    packed = Packed(
        np.full(shape, pad_id, dtype=np.int32),
        np.zeros(shape, dtype=np.int32),
        np.zeros(shape, dtype=np.bool_),
        np.full(shape, -1, dtype=np.int8),
        np.full(shape, -1, dtype=np.int8),
    )
    for number, row in enumerate(rows):
        place = 0
        for segment, part in enumerate(row, start=1):
            span = slice(place, place + part.stop - part.start)
            packed.tokens[number, span] = part.piece.ids[part.start : part.stop]
            packed.segments[number, span] = segment
            packed.loss_mask[number, span] = part.piece.counts[part.start : part.stop]
            packed.domains[number, span] = part.piece.domain
            if part.piece.structure is not None:
                packed.structure[number, span] = part.piece.structure[part.start : part.stop]
            place = span.stop
    return packed

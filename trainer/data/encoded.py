"""Encoded pieces on disk: written once in order, read in any order; in memory only their lengths and origins."""

from array import array
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.data.packing import TOKEN, Held, Part, Slice


class Encoded:
    """What a worker sends of a piece: tokens [length] of `TOKEN`, the index of its domain, the items that it is of."""

    __slots__ = ("domain", "parts", "tokens")

    def __init__(self, tokens: NDArray[np.void], domain: int, parts: tuple[Part, ...]) -> None:
        self.tokens, self.domain, self.parts = tokens, domain, parts


class Store:
    """Pieces by number, 0 … P; a context manager. About 50 bytes of memory a piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts, self._domains = array("q", [0]), array("b")
        self._first_parts, self._parts = array("q", [0]), array("q")

    def __enter__(self) -> Self:
        self._file = open(self._path, "w+b")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
        self._path.unlink()

    def __len__(self) -> int:
        return len(self._domains)

    def append(self, piece: Encoded) -> int:
        """Returns the piece's number."""
        self._file.write(piece.tokens.tobytes())
        self._starts.append(self._starts[-1] + len(piece.tokens))
        self._domains.append(piece.domain)
        for part in piece.parts:
            self._parts.extend(part)
        self._first_parts.append(len(self._parts))
        return len(self) - 1

    def lengths(self) -> NDArray[np.int64]:
        starts = np.array(self._starts, dtype=np.int64)
        return starts[1:] - starts[:-1]

    def length(self, piece: int) -> int:
        return self._starts[piece + 1] - self._starts[piece]

    def domain(self, piece: int) -> int:
        return self._domains[piece]

    def parts(self, piece: int) -> list[Part]:
        numbers = self._parts[self._first_parts[piece] : self._first_parts[piece + 1]]
        return [Part(*numbers[place : place + 3]) for place in range(0, len(numbers), 3)]

    def fetch(self, part: Slice) -> Held:
        """What the slice holds, read from disk."""
        piece, start, stop = part
        self._file.seek((self._starts[piece] + start) * TOKEN.itemsize)
        data = self._file.read((stop - start) * TOKEN.itemsize)
        return Held(np.frombuffer(data, dtype=TOKEN), self.domain(piece), list(_within(self.parts(piece), start, stop)))


def _within(parts: Iterable[Part], start: int, stop: int) -> Iterable[Part]:
    """What of the parts of a piece lies within its tokens `start` to `stop`."""
    place = 0
    for part in parts:
        first, last = max(start, place), min(stop, place + part.length)
        if first < last:
            yield Part(part.item, part.start + first - place, last - first)
        place += part.length

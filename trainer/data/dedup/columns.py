"""Columns of numbers over the documents of all shards, in the global order: shard after shard, each in its own order.

They lie in .npy files and are memory-mapped for the moment of a look only, so what is resident does not grow with them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK = 1 << 16  # documents looked at together

Array = NDArray[Any]


class ArrayWriter:
    """A .npy file that grows by rows; its header is written again at the end, in the room that numpy leaves for it."""

    def __init__(self, path: Path, dtype: DTypeLike, *row: int) -> None:
        self._dtype, self._row = np.dtype(dtype), row
        self._path, self._count = path, 0

    def __enter__(self) -> Self:
        self._file: IO[bytes] = open(self._path, "wb")
        self._header()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.seek(0)
        self._header()
        self._file.close()

    def append(self, rows: Array) -> None:
        assert rows.dtype == self._dtype
        assert rows.shape[1:] == self._row
        self._file.write(rows.tobytes())
        self._count += len(rows)

    def _header(self) -> None:
        described = {
            "descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False,
            "shape": (self._count, *self._row),
        }  # fmt: skip
        np.lib.format.write_array_header_1_0(self._file, described)


class Column:
    """A row of numbers, or a whole table, of each document, one file a shard.

    Args:
        row: of files that hold several columns one after the other, [columns, documents], which one is meant.
    """

    def __init__(self, paths: Sequence[Path], row: int | None = None) -> None:
        self._paths, self._row = paths, row
        lengths = [len(self._open(path)) for path in paths]
        self._starts = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def blocks(self) -> Iterator[tuple[int, Array]]:
        """All of it in order: the place of the first document of a block, and its numbers."""
        for start, path in zip(self._starts, self._paths, strict=False):
            for offset in range(0, len(self._open(path)), BLOCK):
                yield int(start) + offset, np.array(self._open(path)[offset : offset + BLOCK])

    def take(self, places_K: NDArray[np.int64]) -> Array:
        """The numbers of some documents, in any order."""
        shard_K = np.searchsorted(self._starts, places_K, side="right") - 1
        taken: Array | None = None
        for shard in np.unique(shard_K):
            mine_K = shard_K == shard
            found = self._open(self._paths[shard])[places_K[mine_K] - self._starts[shard]]
            if taken is None:
                taken = np.empty((len(places_K), *found.shape[1:]), found.dtype)
            taken[mine_K] = found
        assert taken is not None, "somebody is asked for"
        return taken

    def _open(self, path: Path) -> Array:
        mapped: Array = np.load(path, mmap_mode="r")
        return mapped if self._row is None else mapped[self._row]

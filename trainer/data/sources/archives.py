"""Compressed files and archives, read as streams: nothing is ever unpacked to where its name says.

What may go wrong has a name: an archive that unpacks to far more than it is, one that is damaged or encrypted, members
that are links or whose names lead out of the archive.
"""

import bz2
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

import pyarrow

from trainer.data.sources.base import Skipped, Unreadable
from trainer.data.sources.licences import LICENCE_FILE
from trainer.data.sources.text import BLOCK

# A file may unpack to so many times its size, and this much besides; text shrinks to a tenth, seldom to a fiftieth.
LARGEST_RATIO = 200
_FREE_BYTES = 64 * 2**20
_IN_MEMORY = 16 * 2**20
# What the readers of damaged archives raise; an OSError without a number comes from one of them too.
DAMAGED = (
    gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, NotImplementedError
)  # fmt: skip


class TooMuch(Unreadable):
    """An archive unpacks to more than it may; nothing more of it is read."""


class Budget:
    """How much all that is packed in one file may unpack to, at every level together."""

    def __init__(self, packed: int) -> None:
        self.limit = self._left = LARGEST_RATIO * packed + _FREE_BYTES

    def take(self, count: int) -> None:
        """Raises: TooMuch."""
        self._left -= count
        if self._left < 0:
            raise TooMuch("archive unpacks to too much", f"more than {LARGEST_RATIO} times its size")


class _Unpacked(io.RawIOBase):
    """A stream of unpacked bytes, each paid out of a budget."""

    def __init__(self, stream: Any, budget: Budget) -> None:
        self._stream, self._budget = stream, budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._budget.take(len(data))
        buffer[: len(data)] = data
        return len(data)


@dataclass(frozen=True)
class Member:
    """A file as a stream. `unpacked` is its name without the suffixes of compression that were taken off it."""

    name: str
    stream: io.BufferedReader
    unpacked: str = ""

    @property
    def called(self) -> str:
        return self.unpacked or self.name


def decompressed(file: Member, budget: Budget) -> Member:
    """What is in a compressed file."""
    path = PurePosixPath(file.called)
    suffix = path.suffix.lower()
    unpacked = str(path.with_suffix(".tar" if suffix == ".tgz" else ""))
    return Member(file.name, _buffered(_decompressor(suffix, file.stream), budget), unpacked)


def _decompressor(suffix: str, stream: io.BufferedReader) -> Any:
    match suffix:
        case ".gz" | ".tgz":
            return gzip.GzipFile(fileobj=stream)
        case ".bz2":
            return bz2.BZ2File(stream)
        case ".xz":
            return lzma.LZMAFile(stream)
    assert suffix == ".zst"
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, mode="r"), "zstd")


def _buffered(stream: Any, budget: Budget) -> io.BufferedReader:
    return io.BufferedReader(_Unpacked(stream, budget), BLOCK)


@contextmanager
def seekable(stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """The same bytes where one may seek: the stream itself, or a copy, on disk if it is large."""
    if stream.seekable():
        yield stream
        return
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as copy:
        shutil.copyfileobj(stream, copy, BLOCK)
        copy.seek(0)
        yield copy


def members(kind: str, stream: io.BufferedReader, budget: Budget) -> Iterator[Member | Skipped]:
    """The files of an archive in its order; of a zip licences come first, since they govern what follows.

    A member must be read before the next one is asked for.
    """
    return _zip_members(stream, budget) if kind == "zip" else _tar_members(stream, budget)


def _zip_members(stream: io.BufferedReader, budget: Budget) -> Iterator[Member | Skipped]:
    with seekable(stream) as file, zipfile.ZipFile(file) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        infos.sort(key=lambda info: LICENCE_FILE.match(PurePosixPath(info.filename).name) is None)
        for info in infos:
            fault = _fault_of_name(info.filename)
            if fault or stat.S_ISLNK(info.external_attr >> 16):
                yield Skipped(fault or "link in an archive", info.filename)
            elif info.flag_bits & 1:
                yield Skipped("encrypted", info.filename, "a member of the archive needs a password")
            else:
                yield from _zip_member(archive, info, budget)


def _zip_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: Budget) -> Iterator[Member | Skipped]:
    try:
        with archive.open(info) as file:
            yield Member(info.filename, _buffered(file, budget))
    except DAMAGED as error:
        yield Skipped("damaged archive", info.filename, str(error))


class _CheckedInfo(tarfile.TarInfo):
    """tarfile takes a header that is cut off or garbled for the end of the archive; here it is damage."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_CheckedInfo":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise Unreadable("damaged archive", f"{error} at byte {tarfile_.offset}") from error


def _tar_members(stream: io.BufferedReader, budget: Budget) -> Iterator[Member | Skipped]:
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_CheckedInfo) as archive:
        while (info := archive.next()) is not None:
            # It would keep every header it has read.
            archive.members.clear()  # type: ignore[attr-defined]
            fault = _fault_of_name(info.name)
            if info.isdir():
                continue
            file = None if fault or not info.isreg() else archive.extractfile(info)
            if file is None:
                yield Skipped(fault or "link in an archive", info.name)
            else:
                yield Member(info.name, _buffered(file, budget))


def _fault_of_name(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":"))
    return "unsafe path in an archive" if outside or "\0" in name else ""

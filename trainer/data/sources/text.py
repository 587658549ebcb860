"""From bytes to text: which encoding they are in, and lines of bounded length.

The rule: a byte order mark decides; else it is UTF-8 if all of it is; else what charset-normalizer finds. Bytes that
hold a NUL and have no such mark are no text.
"""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from charset_normalizer import from_bytes

from trainer.data.sources.base import Unreadable

LONGEST_LINE = 16 * 2**20  # bytes; a longer one is skipped without being held
BLOCK = 2**18
_GUESSED_FROM = 2**16
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the one of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode(data: bytes) -> str:
    """Raises: Unreadable: the bytes are no text, or of no encoding that can be told."""
    try:
        return data.decode(encoding_of(data))
    except UnicodeDecodeError as error:
        raise Unreadable("wrong encoding", str(error)) from error


def encoding_of(sample: bytes, whole: bool = True) -> str:
    """The encoding of bytes, which are all of a file or its beginning.

    Raises:
        Unreadable: they are no text, or of no encoding that can be told.
    """
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    if b"\0" in sample[:_GUESSED_FROM]:
        raise Unreadable("no text", "the file is binary")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample, final=whole)
    except UnicodeDecodeError:
        return _guessed(sample[:_GUESSED_FROM])
    return "utf-8"


def _guessed(sample: bytes) -> str:
    found = from_bytes(sample).best()
    if found is None:
        raise Unreadable("wrong encoding", "it is not UTF-8, nor any other that can be told")
    return found.encoding


class Utf8(io.RawIOBase):
    """A stream of text in UTF-16 or UTF-32, in UTF-8: only there does a byte of a newline end a line."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        while not self._rest:
            data = self._stream.read(BLOCK)
            self._rest = self._decoder.decode(data, final=not data).encode("utf-8", errors="replace")
            if not data:
                break
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def prepared(stream: io.BufferedReader) -> tuple[io.BufferedReader, str]:
    """The stream past its byte order mark, and the encoding of its lines.

    Raises:
        Unreadable: as `encoding_of`.
    """
    encoding = encoding_of(stream.peek(BLOCK)[:BLOCK], whole=False)
    if encoding == "utf-8-sig":
        stream.read(len(codecs.BOM_UTF8))
        return stream, "utf-8"
    if encoding in ("utf-16", "utf-32"):
        return io.BufferedReader(Utf8(stream, encoding), BLOCK), "utf-8"
    return stream, encoding


def lines(stream: BinaryIO, position: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes | None]]:
    """Lines that begin before `end`, each with the position of its first byte; None for one that is too long.

    Args:
        position: where the stream stands, which is where a line begins.
    """
    while end is None or position < end:
        line = stream.readline(LONGEST_LINE)
        if not line:
            return
        start, position = position, position + len(line)
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            position += skip_line(stream)
            yield start, None
        else:
            yield start, line


def skip_line(stream: BinaryIO, most: int | None = None) -> int:
    """Read past the next newline, or past about `most` bytes; returns how many that was."""
    skipped = 0
    while (most is None or skipped < most) and (part := stream.readline(BLOCK)):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def pieces(stream: BinaryIO, largest: int) -> Iterator[bytes]:
    """All of a stream in pieces of at most so many bytes, cut at a blank line where there is one, else at a newline."""
    rest = b""
    while True:
        block = rest + stream.read(largest - len(rest))
        if len(block) < largest:
            if block:
                yield block
            return
        cut = max(block.rfind(b"\n\n") + 2, 0) if b"\n\n" in block else block.rfind(b"\n") + 1
        cut = cut if cut > largest // 2 else largest
        yield block[:cut]
        rest = block[cut:]

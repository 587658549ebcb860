"""What a source is: named units, each of which yields records and says what it had to skip."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from trainer.spec import Domain, Record

FORMULA = re.compile(r":math:|\.\. math::|\\begin\{|\$[^$\n]*\\[a-zA-Z]+[^$\n]*\$|\\(?:frac|sum|int|sqrt)\b")


@dataclass(frozen=True)
class Skipped:
    """A record or file that could not be read: counted under its reason, never silently lost.

    `where` names file and row; `detail` is what a library or the system said.
    """

    reason: str
    where: str
    detail: str = ""


Found = Record | Skipped


class Unreadable(Exception):
    """What a reader ends in when the rest of a file cannot be read; becomes a `Skipped` of that file."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class Meter:
    """How many bytes of its file a unit has read so far."""

    def __init__(self) -> None:
        self.bytes = 0


@dataclass(frozen=True)
class Unit:
    """The smallest thing a shard is made of: a file, an archive, a byte range or a row group of a big file.

    `bytes` are those on disk, 0 where nobody knows. `read` may be called again and yields the same.
    """

    source: str
    name: str
    bytes: int
    read: Callable[[], Iterator[Found]]
    meter: Meter = field(default_factory=Meter, compare=False)

    def position(self, text_bytes: int) -> int:
        """How many of its bytes have been read, for progress: what its file says, else as many as text came out."""
        return min(self.bytes, self.meter.bytes or text_bytes)


@dataclass(frozen=True)
class Source:
    """A named corpus. The order of its units is by hash of their names: the first megabytes are a sample of all."""

    name: str
    units: tuple[Unit, ...]

    @property
    def bytes(self) -> int:
        return sum(unit.bytes for unit in self.units)


def make_source(name: str, units: Iterable[Unit]) -> Source:
    return Source(name, tuple(sorted(units, key=lambda unit: hashlib.sha256(unit.name.encode()).digest())))


def record(text: str, source: str, domain: Domain, language: str = "", **meta: Any) -> Record:
    """A record whose id is the hash of where it came from and what it says."""
    place = json.dumps([source, meta, text], ensure_ascii=True)
    identity = hashlib.sha256(place.encode()).hexdigest()[:16]
    # Half of a surrogate pair, which JSON can spell, is no text that UTF-8 can hold.
    clean = text.encode("utf-8", errors="replace").decode()
    return Record(id=identity, text=clean, source=source, domain=domain, language=language, meta=meta)


def domain_of(text: str) -> Domain:
    """Science where there are several formulas; the language rule tells general from multilingual later."""
    return "science" if len(FORMULA.findall(text[:20_000])) >= 2 else "general"

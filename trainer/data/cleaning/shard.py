"""The first pass: some of the units, through all rules but those about duplicates.

A shard's folder holds, in one order:
    documents.jsonl  a `Record` a line
    signatures.npy   [N, P] uint32, MinHash sketches
    keys.npy         [1 + B, N] uint64: of the text, white space aside; then of each band of the signature
    facts.npy        [N] of `FACTS`: what the result counts
    shard.json       `ShardReport`: the account, and what the numbers in the facts stand for
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from trainer.data.cleaning.account import Account
from trainer.data.dedup.columns import BLOCK, ArrayWriter
from trainer.data.dedup.minhash import BANDS, CELLS, band_keys, signature
from trainer.data.rules import Document, RuleEngine, default_rules
from trainer.data.sources import Found, Skipped, Source, Unit, open_sources
from trainer.spec import DOMAINS, CleanSpec

FACTS = np.dtype(
    [
        ("text", "<u8"), ("characters", "<i8"), ("bytes", "<i8"), ("words", "<i8"),
        ("domain", "<i4"), ("source", "<i4"), ("language", "<i4"), ("license", "<i4"),
    ]
)  # fmt: skip
NAMED = ("source", "language", "license")
_WRITTEN_AT_ONCE = 256  # documents
_MEGABYTE = 1_000_000

Report = Callable[[int, int], None]  # bytes read, bytes there are


class ShardReport(BaseModel):
    account: Account
    names: dict[str, list[str]]


@dataclass(frozen=True)
class Share:
    """A shard's units of one source, and how many bytes of their text it reads at most."""

    units: tuple[Unit, ...]
    most: int

    @property
    def bytes(self) -> int:
        """On disk, as far as they are read."""
        return min(self.most, sum(unit.bytes for unit in self.units))


def shares(sources: Sequence[Source], spec: CleanSpec, shard: int) -> list[Share]:
    """Of all units in order each shard takes the next one in turn, and of a source's megabytes what its units are of
    the source's."""
    found, before = [], 0
    for source in sources:
        mine = source.units[(shard - before) % spec.shards :: spec.shards]
        before += len(source.units)
        if mine:
            found.append(Share(mine, int(spec.max_megabytes * _MEGABYTE * len(mine) / len(source.units))))
    return found


def write_shard(spec: CleanSpec, shard: int, folder: Path, report: Report) -> None:
    """Read a shard's units and leave its files in a folder.

    Args:
        report: called with every record, so it may also end the work by an exception.

    Raises:
        ValueError: a source of the spec cannot be opened.
    """
    engine = RuleEngine(default_rules(spec.rules), spec.seed + shard)
    account = Account()
    kept = (
        document
        for found in _read(shares(open_sources(spec), spec, shard), report)
        if (document := _judged(found, engine, account)) is not None
    )
    names = _write(kept, folder)
    account.read, account.dropped, account.examples = engine.read, engine.dropped, engine.examples
    account.scrubbed = dict(engine.scrubbed)
    (folder / "shard.json").write_text(ShardReport(account=account, names=names).model_dump_json(), encoding="utf-8")


def _judged(found: Found, engine: RuleEngine, account: Account) -> Document | None:
    if isinstance(found, Skipped):
        account.skip(found)
        return None
    return engine.examine(Document(found))


def _read(shard: Sequence[Share], report: Report) -> Iterator[Found]:
    """Records and what was skipped. Of a share nothing more is read once its text is more than it may have."""
    total, done = sum(share.bytes for share in shard), 0
    for share in shard:
        text, files = 0, 0
        for unit in share.units:
            start = text
            for found in unit.read():
                # Text may be more than it takes on disk: a unit never counts as more than that.
                read = files + min(unit.bytes, unit.meter.bytes or text - start)
                report(done + min(share.bytes, read), total)
                if not isinstance(found, Skipped):
                    text += len(found.text.encode())
                    if text > share.most:
                        break
                yield found
            files += unit.bytes
            if text > share.most:
                break
        done += share.bytes
    report(total, total)


class _Names:
    """Numbers for names, in the order in which they first come."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


def _write(documents: Iterator[Document], folder: Path) -> dict[str, list[str]]:
    names = {kind: _Names() for kind in NAMED}
    with (
        open(folder / "documents.jsonl", "wb") as lines,
        ArrayWriter(folder / "signatures.npy", np.uint32, CELLS) as signatures,
        ArrayWriter(folder / "facts.npy", FACTS) as facts,
    ):
        for some in _blocks(documents):
            lines.writelines(document.record.model_dump_json().encode() + b"\n" for document in some)
            signatures.append(np.stack([signature(document.words.hashes) for document in some]))
            facts.append(np.array([_facts(document, names) for document in some], FACTS))
    _write_keys(folder)
    return {kind: list(found.numbers) for kind, found in names.items()}


def _blocks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    some = []
    for document in documents:
        some.append(document)
        if len(some) == _WRITTEN_AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _facts(document: Document, names: dict[str, _Names]) -> tuple[int, ...]:
    record = document.record
    named = (record.source, record.language, str(record.meta.get("license") or ""))
    numbers = [names[kind].number(name) for kind, name in zip(NAMED, named, strict=True)]
    size = len(record.text.encode())
    return (text_key(record.text), len(record.text), size, document.words.count, DOMAINS.index(record.domain), *numbers)


def text_key(text: str) -> int:
    """64 bits of the hash of a text, white space aside. Texts that share one are compared by their signatures too."""
    return int.from_bytes(hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest(), "little")


def _write_keys(folder: Path) -> None:
    """Keys lie column after column, so that whoever needs one band reads no other."""
    count = len(np.load(folder / "facts.npy", mmap_mode="r"))
    np.lib.format.open_memmap(folder / "keys.npy", "w+", np.uint64, (1 + BANDS, count)).flush()
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        # Mapped anew for each block: what is resident stays small.
        keys = np.load(folder / "keys.npy", mmap_mode="r+")
        keys[0, block] = np.load(folder / "facts.npy", mmap_mode="r")["text"][block]
        keys[1:, block] = band_keys(np.array(np.load(folder / "signatures.npy", mmap_mode="r")[block])).T

"""The passage index: BM25 over passages, in shards of bounded size whose arrays are memory-mapped.

    passages.jsonl   one passage a line          offsets.npy   where each line begins
    shard-000/       scores as bm25s keeps them (one column a term) and terms.npy, the hash of each column's term

Scores are BM25 as Lucene has it (Kamphuis et al. 2020, "Which BM25 do you mean?"):
idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5));  score = sum over terms of idf(t) tf / (tf + k1 (1 - b + b |p| / mean)),
with N, df and the mean length taken over all shards. So the shards are an implementation, not part of the result.
"""

import hashlib
import json
from array import array
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from bm25s import BM25
from numpy.typing import NDArray

from trainer.data.knowledge.words import terms
from trainer.records import Spec

K1, B = 1.5, 0.75
POSTINGS = 8_000_000  # (term, passage) pairs in a shard: some 300 MB while it is made


class Passage(Spec):
    """A piece of a document; `start` is the character of the document it begins at."""

    document: str
    source: str
    title: str
    start: int
    text: str


class Hit(NamedTuple):
    score: float
    passage: Passage


def term_hash(term: str) -> int:
    """64 bits: two of ten million terms share one with a chance of 3 in a million."""
    return int.from_bytes(hashlib.blake2b(term.encode(), digest_size=8).digest(), "little")


class IndexWriter:
    """Takes passages one by one; holds the postings of one shard, eight bytes a passage and nothing else."""

    def __init__(self, folder: Path, postings: int = POSTINGS) -> None:
        self._folder, self._postings = folder, postings
        self._file = (folder / "passages.jsonl").open("wb")
        self._offsets = array("Q")
        self._shards: list[Path] = []
        self._start_shard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    @property
    def passages(self) -> int:
        return len(self._offsets)

    def add(self, passage: Passage) -> None:
        self._offsets.append(self._file.tell())
        self._file.write(passage.model_dump_json().encode() + b"\n")
        found = Counter(terms(passage.text))
        for term, count in found.items():
            self._terms.append(self._ids.setdefault(term, len(self._ids)))
            self._counts.append(count)
        self._sizes.append(len(found))
        self._lengths.append(found.total())
        if len(self._terms) >= self._postings:
            self._flush()

    def finish(self) -> None:
        """Score what was counted, now that the whole is known."""
        self._flush()
        self._file.close()
        np.save(self._folder / "offsets.npy", np.asarray(self._offsets, dtype=np.uint64))
        hashes, frequencies = self._document_frequencies()
        passages = max(1, self.passages)
        idf = np.log1p((passages - frequencies + 0.5) / (frequencies + 0.5))
        total = sum(int(np.load(shard / "lengths.npy").sum()) for shard in self._shards)
        for shard in self._shards:
            _score(shard, idf[np.searchsorted(hashes, np.load(shard / "terms.npy"))], max(1.0, total / passages))
        names = [shard.name for shard in self._shards]
        (self._folder / "shards.json").write_text(json.dumps({"passages": self.passages, "shards": names}))

    def _start_shard(self) -> None:
        self._ids: dict[str, int] = {}
        self._terms, self._counts = array("I"), array("I")
        self._sizes, self._lengths = array("I"), array("I")

    def _flush(self) -> None:
        """Write the shard's postings, by term and within a term by passage."""
        if not self._sizes:
            return
        shard = self._folder / f"shard-{len(self._shards):03d}"
        shard.mkdir()
        hashes = np.fromiter(map(term_hash, self._ids), dtype=np.uint64, count=len(self._ids))
        order = np.argsort(hashes)
        column = np.empty(len(order), dtype=np.int64)
        column[order] = np.arange(len(order))
        columns = column[np.asarray(self._terms)]
        by_term = np.argsort(columns, kind="stable")
        rows = np.repeat(np.arange(len(self._sizes), dtype=np.int32), np.asarray(self._sizes))
        np.save(shard / "terms.npy", hashes[order])
        np.save(shard / "columns.npy", np.append(0, np.cumsum(np.bincount(columns, minlength=len(order)))))
        np.save(shard / "rows.npy", rows[by_term])
        np.save(shard / "counts.npy", np.asarray(self._counts, dtype=np.uint32)[by_term])
        np.save(shard / "lengths.npy", np.asarray(self._lengths, dtype=np.uint32))
        self._shards.append(shard)
        self._start_shard()

    def _document_frequencies(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of all terms, sorted, and in how many passages each is."""
        hashes = [np.load(shard / "terms.npy") for shard in self._shards] or [np.empty(0, dtype=np.uint64)]
        counts = [np.diff(np.load(shard / "columns.npy")) for shard in self._shards] or [np.empty(0, dtype=np.int64)]
        found, inverse = np.unique(np.concatenate(hashes), return_inverse=True)
        return found, np.bincount(inverse, np.concatenate(counts), minlength=len(found)).astype(np.int64)


def _score(shard: Path, idf_T: NDArray[np.float64], mean_length: float) -> None:
    """Turn a shard's counts into scores, in bm25s' own files."""
    raw = {name: np.load(shard / f"{name}.npy") for name in ("columns", "rows", "counts", "lengths")}
    norms = (K1 * (1 - B + B * raw["lengths"] / mean_length)).astype(np.float32)
    counts = raw["counts"].astype(np.float32)
    idf = np.repeat(idf_T.astype(np.float32), np.diff(raw["columns"]))
    index = BM25(k1=K1, b=B, method="lucene")
    index.scores = {
        "data": idf * counts / (counts + norms[raw["rows"]]),
        "indices": raw["rows"],
        "indptr": raw["columns"],
        "num_docs": len(norms),
    }
    index.vocab_dict, index.nonoccurrence_array = {}, None
    index.save(shard, show_progress=False)
    for name in raw:
        (shard / f"{name}.npy").unlink()


class PassageIndex:
    """A written index; what a search does not touch stays on disk."""

    def __init__(self, folder: Path) -> None:
        described = json.loads((folder / "shards.json").read_text())
        self.passages = int(described["passages"])
        self._file = folder / "passages.jsonl"
        self._offsets = np.load(folder / "offsets.npy", mmap_mode="r") if self.passages else np.empty(0)
        self._shards = [folder / name for name in described["shards"]]
        self._indexes: list[Any] = [BM25.load(shard, mmap=True, load_vocab=False) for shard in self._shards]
        self._terms = [np.load(shard / "terms.npy", mmap_mode="r") for shard in self._shards]

    def search(self, query: str, k: int) -> list[Hit]:
        """The k best passages that share a term with the query, best first, equal ones in the order of the corpus."""
        wanted = np.asarray([term_hash(term) for term in dict.fromkeys(terms(query))], dtype=np.uint64)
        found: list[tuple[float, int]] = []
        first = 0
        for index, known in zip(self._indexes, self._terms, strict=True):
            scores = index.get_scores_from_ids(_columns(known, wanted))
            found += [(-float(scores[row]), first + int(row)) for row in _largest(scores, k)]
            first += len(scores)
        return [Hit(-score, self.passage(number)) for score, number in sorted(found)[:k]]

    def passage(self, number: int) -> Passage:
        with open(self._file, "rb") as file:
            file.seek(int(self._offsets[number]))
            return Passage.model_validate_json(file.readline())


def _columns(known: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where the wanted terms stand among the known, without those that do not."""
    places = np.searchsorted(known, wanted)
    places = places[places < len(known)]
    return places[np.isin(known[places], wanted)]


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Rows of the k largest positive scores, and of all that equal the last of them."""
    positive = np.flatnonzero(scores > 0)
    if len(positive) <= k:
        return positive
    least = np.partition(scores[positive], -k)[-k]
    return np.flatnonzero(scores >= least)

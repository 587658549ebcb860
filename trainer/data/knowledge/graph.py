"""The triples and which of them an entity is in, in files that are read by place.

triples.jsonl    one triple a line
keys.npy         hashes of entities and documents, sorted       places.npy   where a line with each begins
"""

import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.data.knowledge.index import term_hash
from trainer.data.knowledge.triples import Triple, normalise

_BUCKETS = 64  # of keys by their first bits: one at a time is sorted in memory
_BUFFER = 1_000_000
_DOCUMENT = "\0document\0"  # in front of a document's id: no entity begins so
_PENDING = b'"resolved":false'
MOST = 200  # triples of one entity that are looked at, unless more are asked for
MOST_ENTITIES = 5_000  # that a search for a path goes through


class GraphWriter:
    """Takes triples one by one. References are resolved at the end, when all labels are known."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._raw = folder / "found.jsonl"
        self._file = self._raw.open("wb")
        self._labels: set[int] = set()
        self.triples = self.unresolved = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def add(self, triple: Triple) -> None:
        self._file.write(triple.model_dump_json().encode() + b"\n")
        self.triples += 1
        if triple.relation == "contains":
            self._labels.add(term_hash(f"{triple.source}\0{triple.object}"))

    def finish(self) -> None:
        self._file.close()
        keys = _KeyWriter(self._folder)
        place = 0
        with open(self._raw, "rb") as raw, open(self._folder / "triples.jsonl", "wb") as file:
            for line in raw:
                line = self._resolved(line) if _PENDING in line else line
                file.write(line)
                for key in _keys(json.loads(line)):
                    keys.add(key, place)
                place += len(line)
        self._raw.unlink()
        keys.finish()

    def _resolved(self, line: bytes) -> bytes:
        """A reference to a label of another document of the same source is no dangling one."""
        triple = Triple.model_validate_json(line)
        if triple.resolved:
            return line
        known = triple.relation == "refers to" and term_hash(f"{triple.source}\0{triple.object}") in self._labels
        self.unresolved += not known
        return triple.model_copy(update={"resolved": known}).model_dump_json().encode() + b"\n"


def _keys(triple: dict[str, str]) -> set[int]:
    names = (normalise(triple["subject"]), normalise(triple["object"]), _DOCUMENT + triple["document"])
    return {term_hash(name) for name in names}


class _KeyWriter:
    """Sorts (key, place) pairs of any number with the memory of one bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: list[int] = []
        self._places: list[int] = []
        self._count = 0

    def add(self, key: int, place: int) -> None:
        self._keys.append(key)
        self._places.append(place)
        if len(self._keys) == _BUFFER:
            self._spill()

    def finish(self) -> None:
        self._spill()
        sorted_keys, sorted_places = (self._array(name) for name in ("keys", "places"))
        done = 0
        for bucket in range(_BUCKETS):
            path = self._bucket(bucket)
            if not path.is_file():
                continue
            pairs = np.fromfile(path, dtype=np.uint64).reshape(-1, 2)
            order = np.argsort(pairs[:, 0], kind="stable")
            sorted_keys[done : done + len(order)] = pairs[order, 0]
            sorted_places[done : done + len(order)] = pairs[order, 1]
            done += len(order)
            path.unlink()

    def _spill(self) -> None:
        pairs = np.asarray([self._keys, self._places], dtype=np.uint64).T
        buckets = pairs[:, 0] // np.uint64(2**64 // _BUCKETS)
        for bucket in np.unique(buckets):
            with open(self._bucket(int(bucket)), "ab") as file:
                file.write(np.ascontiguousarray(pairs[buckets == bucket]).tobytes())
        self._count += len(pairs)
        self._keys, self._places = [], []

    def _array(self, name: str) -> NDArray[np.uint64]:
        path = self._folder / f"{name}.npy"
        if not self._count:
            np.save(path, np.empty(0, dtype=np.uint64))
            return np.empty(0, dtype=np.uint64)
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint64, shape=(self._count,))

    def _bucket(self, bucket: int) -> Path:
        return self._folder / f"bucket-{bucket:02d}"


class TripleGraph:
    """Written triples, found by an entity's name (any case) or a document's id."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "triples.jsonl"
        self._keys = np.load(folder / "keys.npy", mmap_mode="r")
        self._places = np.load(folder / "places.npy", mmap_mode="r")

    def neighbours(self, entity: str, relation: str | None = None, most: int = MOST) -> list[Triple]:
        """Triples with the entity as subject or object, in the order of the corpus, at most so many."""
        name = normalise(entity)
        found = []
        for triple in self._at(term_hash(name)):
            if name in (normalise(triple.subject), normalise(triple.object)) and relation in (None, triple.relation):
                found.append(triple)
            if len(found) == most:
                break
        return found

    def of_document(self, document: str, most: int = MOST) -> list[Triple]:
        triples = self._at(term_hash(_DOCUMENT + document), most)
        return [triple for triple in triples if triple.document == document]

    def path(self, a: str, b: str, longest: int = 6) -> list[Triple]:
        """A shortest chain of triples from one entity to another, whichever way they point; empty where there is none
        of at most `longest`, nor within the first MOST_ENTITIES entities."""
        start, goal = normalise(a), normalise(b)
        before: dict[str, tuple[str, Triple] | None] = {start: None}
        waiting = deque([(start, 0)])
        while waiting and goal not in before and len(before) < MOST_ENTITIES:
            name, steps = waiting.popleft()
            if steps == longest:
                break
            for triple in self.neighbours(name):
                for other in (normalise(triple.subject), normalise(triple.object)):
                    if other not in before:
                        before[other] = (name, triple)
                        waiting.append((other, steps + 1))
        chain: list[Triple] = []
        step = before.get(goal)
        while step is not None:
            chain.append(step[1])
            step = before[step[0]]
        return chain[::-1]

    def around(self, entity: str, depth: int, most: int) -> list[Triple]:
        """Triples within so many steps of an entity, the nearest first, each once."""
        found: dict[tuple[str, str, str], Triple] = {}
        ring, seen = [normalise(entity)], {normalise(entity)}
        for _ in range(depth):
            following = []
            for name in ring:
                for triple in self.neighbours(name, most=most):
                    if len(found) == most:
                        return list(found.values())
                    found.setdefault((triple.subject, triple.relation, triple.object), triple)
                    following += [normalise(triple.subject), normalise(triple.object)]
            ring = [name for name in dict.fromkeys(following) if name not in seen]
            seen.update(ring)
        return list(found.values())

    def _at(self, key: int, most: int | None = None) -> Iterator[Triple]:
        start, end = (int(np.searchsorted(self._keys, np.uint64(key), side=side)) for side in ("left", "right"))
        with open(self._file, "rb") as file:
            for place in self._places[start : end if most is None else min(end, start + most)]:
                file.seek(int(place))
                yield Triple.model_validate_json(file.readline())

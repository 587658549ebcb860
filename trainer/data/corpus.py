"""Documents and problems as one sequence that stays on disk: of each item only a few numbers and its id are held.

An item is a line of a JSON Lines file. About 70 bytes of memory an item, whatever its length.
"""

import os
from array import array
from collections.abc import Iterable
from enum import IntEnum
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.data.conversations import is_conversation
from trainer.spec import DOMAINS, Problem, Record

HELDOUT_SHARE = 0.02
PROBLEMS = "problems"  # what the synthetic items' source is called
SYNTHETIC = DOMAINS.index("science")  # the domain they count in


class Kind(IntEnum):
    """What an item is made into."""

    DOCUMENT = 0
    CONVERSATION = 1
    PROBLEM = 2


class Corpus:
    """The items in the order they were added, N of them.

    Attributes:
        kinds_N, domains_N, sources_N: a `Kind`, an index into `DOMAINS`, an index into `sources`.
        characters_N: how long its text is.
        heldout_N: whether it is kept from training.
    """

    def __init__(self, documents: Iterable[Path], problems: Iterable[Path]) -> None:
        """Reads every file once.

        Raises:
            ValueError: a line is no record, or no problem.
        """
        self.sources: list[str] = []
        self._files: list[int] = []
        self._places, self._lengths, self._file_of = array("q"), array("q"), array("i")
        self._kinds, self._domains, self._sources = array("b"), array("b"), array("i")
        self._characters, self._hashes = array("q"), array("Q")
        self._ids, self._id_ends = bytearray(), array("q", [0])
        self._source_numbers: dict[str, int] = {}
        for path in documents:
            self._index(path, problems=False)
        for path in problems:
            self._index(path, problems=True)
        self.kinds_N = np.array(self._kinds, dtype=np.int8)
        self.domains_N = np.array(self._domains, dtype=np.int8)
        self.sources_N = np.array(self._sources, dtype=np.int32)
        self.characters_N = np.array(self._characters, dtype=np.int64)
        self.heldout_N = self._heldout()

    def __len__(self) -> int:
        return len(self._kinds)

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []

    def id(self, item: int) -> str:
        return self._ids[self._id_ends[item] : self._id_ends[item + 1]].decode()

    def line(self, item: int) -> bytes:
        """The item as it stands in its file."""
        return os.pread(self._files[self._file_of[item]], self._lengths[item], self._places[item])

    def items(self, *kinds: Kind, heldout: bool, domain: int | None = None) -> NDArray[np.int64]:
        """Numbers of the items of some kinds, and one domain, that are held out or not, in order."""
        chosen_N = np.isin(self.kinds_N, kinds) & (self.heldout_N == heldout)
        return np.flatnonzero(chosen_N if domain is None else chosen_N & (self.domains_N == domain))

    def _index(self, path: Path, *, problems: bool) -> None:
        number, place = len(self._files), 0
        with open(path, "rb") as file:
            for line in file:
                self._places.append(place)
                self._lengths.append(len(line))
                self._file_of.append(number)
                place += len(line)
                if problems:
                    self._add_problem(Problem.model_validate_json(line))
                else:
                    self._add_record(Record.model_validate_json(line))
        self._files.append(os.open(path, os.O_RDONLY))

    def _add_problem(self, problem: Problem) -> None:
        self._add(problem.id, Kind.PROBLEM, SYNTHETIC, PROBLEMS, len(problem.prompt) + len(problem.solution))

    def _add_record(self, record: Record) -> None:
        kind = Kind.CONVERSATION if is_conversation(record) else Kind.DOCUMENT
        self._add(record.id, kind, DOMAINS.index(record.domain), record.source, len(record.text))

    def _add(self, identity: str, kind: Kind, domain: int, source: str, characters: int) -> None:
        if source not in self._source_numbers:
            self._source_numbers[source] = len(self.sources)
            self.sources.append(source)
        self._kinds.append(kind)
        self._domains.append(domain)
        self._sources.append(self._source_numbers[source])
        self._characters.append(characters)
        self._hashes.append(int.from_bytes(sha256(identity.encode()).digest()[:8], "big"))
        self._ids += identity.encode()
        self._id_ends.append(len(self._ids))

    def _heldout(self) -> NDArray[np.bool_]:
        """By the hash of the id, so that nothing moves from one side to the other when the corpus grows; but of every
        kind and domain at least the share it should have, and one where there are two."""
        hashes_N = np.array(self._hashes, dtype=np.uint64)
        heldout_N = hashes_N < np.uint64(HELDOUT_SHARE * 2**64)
        for kind in Kind:
            for domain in range(len(DOMAINS)):
                group = np.flatnonzero((self.kinds_N == kind) & (self.domains_N == domain))
                least = max(1, round(HELDOUT_SHARE * len(group))) if len(group) > 1 else 0
                heldout_N[group[np.argsort(hashes_N[group], kind="stable")[:least]]] = True
        return heldout_N

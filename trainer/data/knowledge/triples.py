"""Triples: what a document says of things, and where it says so."""

import unicodedata
from typing import NamedTuple

from trainer.records import Spec

EVIDENCE = 240  # characters kept of the line or sentence


class Relation(NamedTuple):
    """What an extractor finds. `resolved` is false where a document points to something that it does not have."""

    subject: str
    relation: str
    object: str
    line: int  # from 1
    evidence: str
    resolved: bool = True


class Triple(Spec):
    """A relation with the document and the source it is from: one line of triples.jsonl."""

    subject: str
    relation: str
    object: str
    document: str
    source: str
    line: int
    evidence: str
    resolved: bool = True


class Found:
    """Relations of one document, each once, at the first place it is said."""

    def __init__(self, text: str) -> None:
        self._lines = text.split("\n")
        self._relations: dict[tuple[str, str, str], Relation] = {}

    def add(
        self, subject: str, relation: str, object: str, line: int, *, evidence: str = "", resolved: bool = True
    ) -> None:
        """Note a relation; by default its evidence is its line."""
        key = (subject, relation, object)
        if subject and object and subject != object and key not in self._relations:
            evidence = evidence or self._lines[line - 1].strip()[:EVIDENCE]
            self._relations[key] = Relation(*key, line, evidence, resolved)

    def relations(self) -> list[Relation]:
        return list(self._relations.values())


class Unreadable(ValueError):
    """A document whose relations cannot be read; the message is the reason that is counted."""


def normalise(entity: str) -> str:
    """The form under which an entity is found: any case, any white space."""
    return " ".join(unicodedata.normalize("NFKC", entity).casefold().split())

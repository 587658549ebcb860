"""What is known: passages to search and entities to walk, built from documents in one pass and opened by folder."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from trainer.data.knowledge.extract import extract, title_of
from trainer.data.knowledge.graph import MOST, GraphWriter, TripleGraph
from trainer.data.knowledge.index import POSTINGS, Hit, IndexWriter, Passage, PassageIndex
from trainer.data.knowledge.triples import Triple, Unreadable, normalise
from trainer.data.knowledge.words import PASSAGE_BYTES, passages, terms
from trainer.spec import Record


class Counts(NamedTuple):
    """What went into a store."""

    documents: int
    passages: int
    triples: int
    unresolved: int  # of these, references to what no document has
    relations: Counter[str]
    unread: Counter[str]  # documents without triples by reason; their passages are there


def build(
    documents: Iterable[Record], folder: Path, passage_bytes: int = PASSAGE_BYTES, postings: int = POSTINGS
) -> Counts:
    """Write a store into an empty folder. The same documents in the same order give the same bytes."""
    relations: Counter[str] = Counter()
    unread: Counter[str] = Counter()
    count = 0
    with IndexWriter(folder, postings) as index, GraphWriter(folder) as graph:
        for record in documents:
            count += 1
            title = title_of(record)
            for start, text in passages(record.text, passage_bytes):
                index.add(Passage(document=record.id, source=record.source, title=title, start=start, text=text))
            try:
                found = extract(record)
            except Unreadable as reason:
                unread[str(reason)] += 1
                continue
            for triple in found:
                graph.add(triple)
                relations[triple.relation] += 1
        index.finish()
        graph.finish()
    return Counts(count, index.passages, graph.triples, graph.unresolved, relations, unread)


class KnowledgeStore:
    """A written store, read from disk as it is asked."""

    def __init__(self, index: PassageIndex, graph: TripleGraph) -> None:
        self._index, self._graph = index, graph

    @classmethod
    def open(cls, folder: Path) -> Self:
        return cls(PassageIndex(folder), TripleGraph(folder))

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """The passages that fit best; none for a query of stop words only, or of words that no passage has."""
        return self._index.search(query, k)

    def neighbours(self, entity: str, relation: str | None = None, most: int = MOST) -> list[Triple]:
        return self._graph.neighbours(entity, relation, most)

    def path(self, a: str, b: str) -> list[Triple]:
        return self._graph.path(a, b)

    def around(self, entity: str, depth: int = 1, most: int = MOST) -> list[Triple]:
        return self._graph.around(entity, depth, most)

    def entities(self, query: str, k: int = 10, among: int = 10) -> list[str]:
        """Entities of the documents that fit a query best, those first whose names share most words with it."""
        wanted = set(terms(query))
        shared: dict[str, tuple[float, str]] = {}
        for hit in self.search(query, among):
            for triple in self._graph.of_document(hit.passage.document):
                for name in (triple.subject, triple.object):
                    words = set(terms(name))
                    if common := len(wanted & words):
                        shared.setdefault(normalise(name), (-common / len(wanted | words), name))
        return [name for _, name in sorted(shared.values(), key=lambda item: item[0])[:k]]

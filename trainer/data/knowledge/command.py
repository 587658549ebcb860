"""python -m trainer search RUN_DIR QUERY: what a knowledge job's store knows, as JSON on standard output.

Passages that fit the query and entities of theirs to walk on from; with --entity the query is an entity's name and the
answer is the graph around it, with --to the chain of triples to another.
"""

import argparse
import json
import sys
from typing import Any

from trainer.artifacts import RunFolder
from trainer.data.knowledge.store import KnowledgeStore
from trainer.data.knowledge.triples import Triple, normalise
from trainer.data.knowledge.words import terms
from trainer.process import EXIT_FAILED

MOST_PASSAGES, MOST_TRIPLES, DEEPEST = 100, 1_000, 4


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer search", description=__doc__)
    parser.add_argument("run_dir", help="run folder of a knowledge job")
    parser.add_argument("query", help="words, or with --entity the name of one thing")
    parser.add_argument("--k", type=int, default=10, help="passages at most")
    parser.add_argument("--entity", action="store_true", help="show the graph around the entity of that name")
    parser.add_argument("--depth", type=int, default=1, help="steps from the entity")
    parser.add_argument("--most", type=int, default=60, help="triples at most")
    parser.add_argument("--to", help="with --entity: another entity, to which a path is wanted")
    parsed = parser.parse_args(arguments)
    try:
        store = KnowledgeStore.open(RunFolder(parsed.run_dir).artifact("knowledge"))
        print(json.dumps(_answer(store, parsed), ensure_ascii=False))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _answer(store: KnowledgeStore, asked: argparse.Namespace) -> dict[str, Any]:
    for name, value, largest in (("k", asked.k, MOST_PASSAGES), ("depth", asked.depth, DEEPEST),
                                 ("most", asked.most, MOST_TRIPLES)):  # fmt: skip
        if not 1 <= value <= largest:
            raise ValueError(f"--{name} is {value}; give 1 to {largest}")
    if not asked.entity:
        return search(store, asked.query, asked.k)
    if asked.to is not None:
        return {"entity": asked.query, "triples": _rows(store.path(asked.query, asked.to)), "like": []}
    return graph(store, asked.query, asked.depth, asked.most)


def search(store: KnowledgeStore, query: str, k: int) -> dict[str, Any]:
    """`terms` are what was searched for: none where the query holds stop words only."""
    passages = [{"score": round(hit.score, 4), **hit.passage.model_dump()} for hit in store.search(query, k)]
    return {"terms": list(dict.fromkeys(terms(query))), "passages": passages, "entities": store.entities(query)}


def graph(store: KnowledgeStore, entity: str, depth: int, most: int) -> dict[str, Any]:
    """The triples around an entity; `like` are names that might have been meant where nobody knows it."""
    triples = store.around(entity, depth, most)
    names = {normalise(name): name for triple in reversed(triples) for name in (triple.subject, triple.object)}
    return {
        "entity": names.get(normalise(entity), entity),
        "triples": _rows(triples),
        "like": [] if triples else store.entities(entity),
    }


def _rows(triples: list[Triple]) -> list[dict[str, Any]]:
    return [triple.model_dump() for triple in triples]

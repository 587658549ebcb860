"""The routes of a knowledge store of the small HTTP server in contract.py."""

from typing import Any

from fastapi import FastAPI

RESULT = {"documents": 2, "passages": 3, "triples": 2, "unresolved": 1, "relations": {"is a": 1, "refers to": 1}}
PASSAGE = {
    "score": 4.2, "document": "d1", "source": "books", "title": "Metals", "start": 10,
    "text": "Gold <b> is golden; 黄金 is gold.",
}  # fmt: skip
SAID = {"document": "d1", "source": "books", "line": 3, "evidence": "Gold is a metal", "resolved": True}
TRIPLES = [
    {"subject": "Gold", "relation": "is a", "object": "metal"} | SAID,
    {"subject": "lemma-a", "relation": "refers to", "object": "GOLD"} | SAID | {"resolved": False},
]


def knowledge(app: FastAPI, platform: Any) -> None:
    @app.get("/jobs/{id}/search")
    def search(id: str, query: str, k: int) -> dict[str, Any]:
        if query == "the of":
            return {"terms": [], "passages": [], "entities": []}
        hit = "gold" in query
        entities = ["Gold", "lemma-a"] if hit else []
        return {"terms": query.split(), "passages": [PASSAGE] if hit else [], "entities": entities}

    @app.get("/jobs/{id}/graph")
    def graph(id: str, entity: str, depth: int, to: str | None = None) -> dict[str, Any]:
        platform.walked.append((entity, depth, to))
        known = entity.casefold() == "gold" and to != "nobody"
        return {"entity": "Gold" if known else entity, "triples": TRIPLES if known else [], "like": ["Gold"]}

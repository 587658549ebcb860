"""The routes about data and reviews of the small HTTP server in contract.py."""

import json
from typing import Any

from fastapi import FastAPI, Query, Response
from fastapi.responses import JSONResponse

# The server looks at so many rows an answer when it searches, as the backend does in a second.
SCAN_ROWS = 25
NOW = 1_800_000_000.0

CLEANED: dict[str, Any] = {
    "documents": {"read": 1036, "kept": 812},
    "dropped": {"too few words": 210, "near duplicate": 14, "personal data": 0},
    "examples": {"too few words": [{"source": "notes", "text": "Too few."}], "near duplicate": []},
    "skipped": {"wrong encoding": 3},
    "skipped_examples": {"wrong encoding": [{"where": "notes/a.txt", "detail": "byte 0xff at 17"}]},
    "scrubbed": {"email": 4},
    "characters": 90_000,
    "bytes": 91_000,
    "shares": {"code": 0.3, "science": 0.7},
    "sources": {"notes": 30_000, "books": 60_000},
    "languages": {"en": 80_000, "de": 10_000},
    "licenses": {"MIT": 400, "unknown": 412},
    "lengths": {"bounds": [0, 100, 1000], "counts": [500, 300, 12]},
}
SYNTHESIZED: dict[str, Any] = {
    "problems": {"train": 30, "rl": 0, "heldout": 2},
    "families": {"train": {"addition": 20, "perimeter": 10}},
    "mistakes": {"off_by_one": 12},
    "rejected": {"no_unique_answer": 2},
}
PART = {"documents": 3, "tokens": 800, "available": 2000, "counted": True, "repeated": 1.2}
TOKENIZED: dict[str, Any] = {
    "context": 8,
    "text": {"train": {"rows": 40, "tokens": 300, "fill": 0.99}, "heldout": {"rows": 0, "tokens": 0, "fill": 0.0}},
    "dialogue": {"train": {"rows": 5, "tokens": 38, "fill": 0.98}, "heldout": {"rows": 1, "tokens": 8, "fill": 1.0}},
    "mixture": {
        "domains": {
            "code": {"wanted": 0.28, "reached": 0.285, "sources": {"notes": PART}},
            "science": {"wanted": 0.72, "reached": 0.715, "sources": {"books": PART | {"counted": False}}},
        },
        "short": ["science: 2,000 tokens are all there is"],
    },
}
PACKED: dict[str, Any] = {
    "tokens": [
        {"id": 7, "text": "<user>", "counts": False, "segment": 1, "domain": "science"},
        {"id": 8, "text": "2 < 3\n", "counts": False, "segment": 1, "domain": "science"},
        {"id": 9, "text": "yes", "counts": True, "segment": 1, "domain": "science"},
        {"id": 9, "text": "yes", "counts": True, "segment": 2, "domain": "science"},
    ],
    "documents": [
        {
            "id": "d1", "segment": 1, "source": "notes", "license": "MIT", "language": "en", "kind": "dialogue",
            "rules_passed": ["too few words", "near duplicate"],
        },
        {
            "id": "d2", "segment": 2, "source": "books", "license": None, "language": "en", "kind": "text",
            "rules_passed": [],
        },
    ],
    "drawn": [{"phase": "text", "step": 3}, {"phase": "text", "step": 9}, {"phase": "dialogue", "step": 31}],
}  # fmt: skip
REVIEWED = {
    "id": "reviewed-0123", "kind": "reviewed", "folder": "datasets/reviewed-0123", "rows": 7, "created": NOW,
    "job": "pipe1-synthesize", "about": {"counts": {"accepted": 6, "edited": 1, "rejected": 2}},
}  # fmt: skip
UPLOADS = [{"id": "u7", "name": "notes.zip", "bytes": 900, "received": 900, "created": NOW, "user": "Ada"}]
LINEAGE = {
    "nodes": [
        {"id": "pipe1-clean", "type": "job", "name": "clean", "kind": "clean", "state": "succeeded"},
        {"id": "reviewed-0123", "type": "dataset", "name": "reviewed-0123", "kind": "reviewed", "state": "succeeded"},
        {"id": "pipe1-tokenize", "type": "job", "name": "tokenize", "kind": "tokenize", "state": "succeeded"},
        {"id": "pipe1-sft", "type": "job", "name": "train it", "kind": "sft", "state": "failed"},
    ],
    "edges": [
        {"source": "pipe1-clean", "target": "pipe1-tokenize", "role": "documents"},
        {"source": "reviewed-0123", "target": "pipe1-tokenize", "role": "problems"},
        {"source": "pipe1-tokenize", "target": "pipe1-sft", "role": "dataset"},
    ],
}


def document(number: int) -> dict[str, Any]:
    source, domain = ("books", "science") if number % 2 else ("notes", "code")
    return {"id": f"d{number}", "text": f"Page {number} about tensors.", "source": source, "domain": domain}


def problem(number: int) -> dict[str, Any]:
    wrong = {"mistake": "off_by_one", "solution": "<think>It slips.</think>The answer is 1.", "answer": "1"}
    return {
        "id": f"q{number}", "family": "addition", "level": 1, "prompt": f"What is 2*{number} + 0?",
        "solution": f"<think>2*{number}={2 * number}.</think>The answer is {2 * number}.",
        "direct": f"The answer is {2 * number}.", "answer": str(2 * number), "distractors": [wrong],
    }  # fmt: skip


ROWS = {
    "documents": [document(number) for number in range(60)],
    "problems/train.jsonl": [problem(number) for number in range(30)],
}


def found_rows(rows: list[dict[str, Any]], offset: int, limit: int, search: str, where: list[str]) -> dict[str, Any]:
    """Looks on from `offset` until `limit` rows are found or, when it searches, SCAN_ROWS were looked at."""
    most = SCAN_ROWS if search or where else len(rows)
    fields = [item.split(":", 1) for item in where]
    found: dict[int, dict[str, Any]] = {}
    number = offset
    while number < min(len(rows), offset + most) and len(found) < limit:
        row = rows[number]
        if search in json.dumps(row) and all(str(row.get(name)) == value for name, value in fields):
            found[number] = row
        number += 1
    following = number if number < len(rows) else None
    return {"rows": list(found.values()), "numbers": list(found), "total": len(rows), "next": following}


def data(app: FastAPI, platform: Any) -> None:
    app.get("/uploads")(lambda: UPLOADS)
    app.get("/datasets")(lambda: platform.datasets)
    app.get("/lineage/{id}")(lambda id: LINEAGE)

    @app.get("/datasets/{id}/rows")
    def rows(id: str, artifact: str, offset: int, limit: int, search: str = "", where: list[str] = Query([])) -> Any:
        return found_rows(ROWS[artifact], offset, limit, search, where)

    @app.get("/jobs/{id}/inspect")
    def inspect(id: str, source: str, split: str, row: int, training: str | None = None) -> Any:
        if training and platform.no_record:
            error = {"code": "invalid", "message": "run pipe1-sft kept no record of the rows it drew"}
            return JSONResponse({"error": error}, status_code=422)
        platform.inspected.append({"job": id, "source": source, "split": split, "row": row, "training": training})
        return PACKED if training else PACKED | {"drawn": []}

    @app.get("/jobs/{id}/drawn")
    def drawn(id: str, step: int) -> dict[str, Any]:
        return {"phase": "dialogue", "rows": {"text": [step], "dialogue": [4, 2]}}

    @app.post("/datasets/reviewed", status_code=201)
    def freeze(body: dict[str, Any]) -> dict[str, Any]:
        platform.frozen.append(body)
        platform.datasets = [REVIEWED]
        return REVIEWED


def reviews(app: FastAPI, platform: Any) -> None:
    queue = {"job": "pipe1-synthesize", "name": "synthesize", "finished": NOW}
    app.get("/reviews/queues")(lambda: [queue] if platform.to_review is not None else [])

    def item() -> dict[str, Any]:
        number = platform.to_review
        remaining = 30 - number
        return {"job": "pipe1-synthesize", "split": "train", "number": number, "problem": problem(number),
                "remaining": remaining}  # fmt: skip

    @app.get("/reviews/next", response_model=None)
    def next_item(job: str, split: str) -> dict[str, Any] | Response:
        return item() if split == "train" and platform.to_review < 30 else Response(status_code=204)

    @app.post("/reviews", status_code=201, response_model=None)
    def decide(body: dict[str, Any]) -> dict[str, Any] | Response:
        if body.get("problem", {}).get("answer") == "wrong":
            error = {"code": "invalid", "message": "the edited problem was checked and is not right: wrong answer"}
            return JSONResponse({"error": error}, status_code=422)
        platform.reviewed.append(body)
        platform.to_review += 1
        return {"id": 1, "created": NOW} | body

    @app.post("/reviews/undo")
    def undo(body: dict[str, Any]) -> dict[str, Any]:
        platform.reviewed.pop()
        platform.to_review -= 1
        return item()

    @app.get("/reviews/summary")
    def summary(job: str) -> dict[str, Any]:
        decided = len(platform.reviewed)
        mine = {"accept": decided, "edit": 0, "reject": 0, "seconds": 6.0 * decided}
        splits = {name: {"total": 30, "decided": decided} for name in ("train", "rl", "heldout")}
        counted = {"Ada": mine} if decided else {}
        return {"splits": splits, "mine": mine, "reviewers": counted, "families": counted, "reasons": {}}

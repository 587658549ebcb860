"""Reviewed problems as an immutable dataset: a later decision makes another dataset and changes no past run."""

import json
import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from backend.datasets.tables import DatasetRow
from backend.db import upsert
from backend.errors import Invalid
from backend.jobs.reuse import digest
from backend.platform import Platform
from backend.reviews.schemas import SPLITS, Place, Split
from backend.reviews.service import Queue, decisions, open_queue
from trainer.artifacts import RunFolder, folder_hashes, new_folder

Include = Literal["accepted", "accepted_or_verified"]
PROBLEMS = "problems"


class Sieve:
    """Which lines go into the dataset; `counts` says what became of every problem.

    Args:
        decided: (split, number) -> decision and edited problem.
    """

    def __init__(self, decided: dict[tuple[str, int], tuple[str, Any]], include: Include) -> None:
        self.counts: Counter[str] = Counter()
        self._decided, self._include = decided, include
        self._edited = {problem["id"] for decision, problem in decided.values() if decision == "edit"}
        self._written: set[str] = set()
        # None is in a line of JSON: without edits nothing is found.
        self._names_an_edited = re.compile(b"|".join(map(str.encode, self._edited)) or b"\n\n")

    def kept(self, split: Split, number: int, line: bytes) -> bytes | None:
        """The line to write for a problem, or None."""
        decision, edited = self._decided.get((split, number), (None, None))
        if decision == "edit":
            line = json.dumps(edited, ensure_ascii=False).encode() + b"\n"
        outcome = self._outcome(decision, edited, line)
        self.counts[outcome] += 1
        return None if outcome in ("rejected", "repeated", "undecided") else line

    def _outcome(self, decision: str | None, edited: Any, line: bytes) -> str:
        if decision == "reject":
            return "rejected"
        if self._repeats(edited, line):
            return "repeated"
        if decision is not None:
            return {"accept": "accepted", "edit": "edited"}[decision]
        return "verified" if self._include == "accepted_or_verified" and _verified(line) else "undecided"

    def _repeats(self, edited: Any, line: bytes) -> bool:
        """Whether an edit gave some other problem this very prompt, which may then not stand in two splits."""
        if edited is not None:
            known = edited["id"] in self._written
            self._written.add(edited["id"])
            return known
        return bool(self._names_an_edited.search(line)) and json.loads(line)["id"] in self._edited


def _verified(line: bytes) -> bool:
    """Every generated problem was verified, unless it says otherwise."""
    return b'"verified"' not in line or bool(json.loads(line).get("verified", True))


def freeze_reviewed(platform: Platform, job_id: str, include: Include) -> DatasetRow:
    """Write what review left of a job's problems into `datasets/reviewed-<hash>`, lines that nobody edited unchanged.

    Raises:
        NotFound, Invalid: there is no such job, it left no problems, or none of them would be left to train on.
    """
    queues = [open_queue(platform, Place(job=job_id, split=split)) for split in SPLITS]
    with platform.database.read() as session:
        sieve = Sieve(decisions(session, queues[0].job_id), include)
    draft = RunFolder(platform.settings.home / "datasets" / f".draft-{uuid4().hex}")
    try:
        with new_folder(draft.artifacts / PROBLEMS) as folder:
            rows = {queue.split: _write(folder / f"{queue.split}.jsonl", queue, sieve) for queue in queues}
        if not rows["train"]:
            raise Invalid("no problem of split 'train' was accepted yet; review some, or include the verified ones")
        final = _move(draft)
    finally:
        shutil.rmtree(draft.path, ignore_errors=True)
    about = {"include": include, "problems": rows, "counts": dict(sieve.counts)}
    row = {"id": final.name, "kind": "reviewed", "folder": str(final), "rows": sum(rows.values()),
           "created": time.time(), "job_id": queues[0].job_id, "about": about}  # fmt: skip
    with platform.database.write() as session:
        upsert(session, DatasetRow.__table__, [row], update=False)
        return session.get_one(DatasetRow, final.name)


def _write(path: Path, queue: Queue, sieve: Sieve) -> int:
    count = 0
    with open(path, "wb") as file:
        for number, line in queue.rows.since(0):
            if (kept := sieve.kept(queue.split, number, line)) is not None:
                file.write(kept)
                count += 1
    return count


def _move(draft: RunFolder) -> Path:
    """Give a finished draft the name of its content; where that exists already, it stays."""
    final = draft.path.with_name(f"reviewed-{digest(folder_hashes(draft.artifacts / PROBLEMS))[:16]}")
    if not final.is_dir():
        os.replace(draft.path, final)
    return final

"""Pairs: where they come from, and how they leave the queue."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import func, select, update

from backend.db import upsert
from backend.errors import Invalid, NotFound
from backend.jobs.files import fetched
from backend.jobs.service import get_job
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.preferences.formats import read_pair
from backend.preferences.schemas import Imported, NewPair, Order, fault_of
from backend.preferences.tables import PairRow
from backend.settings import Settings
from trainer.artifacts import RunFolder, read_jsonl
from trainer.spec import Pair, PairScore


def pair_values(settings: Settings, pair: NewPair, rank: float = 0.0) -> dict[str, Any]:
    """A row's columns; the id is a hash of what is to be judged, and decides who many are to judge it."""
    prompt = [message.model_dump() for message in pair.prompt]
    digest = hashlib.sha256(json.dumps([prompt, pair.a, pair.b]).encode()).hexdigest()[:16]
    shared = int(digest[:8], 16) < settings.label_overlap * 16**8
    return {
        "id": digest, "prompt": prompt, "a": pair.a, "b": pair.b, "origin": pair.origin, "created": time.time(),
        "rank": rank, "wanted": settings.label_overlap_people if shared else 1, "judged": 0, "open": True,
        "withdrawn": False,
    }  # fmt: skip


def add_pair(platform: Platform, pair: NewPair) -> PairRow:
    """Queue one pair; the same pair again gives the row that is there."""
    values = pair_values(platform.settings, pair)
    with platform.database.write() as session:
        upsert(session, PairRow.__table__, [values], update=False)
        return session.get_one(PairRow, values["id"])


def add_pairs(platform: Platform, pairs: Iterable[Pair], rank: Callable[[Pair], float] = lambda pair: 0.0) -> Imported:
    """Queue what can be judged; the order on the screen is drawn anew for each person, so `chosen` as `a` gives
    nothing away."""
    refused: Counter[str] = Counter()
    rows = []
    for pair in pairs:
        if fault := fault_of(pair.chosen, pair.rejected):
            refused[fault] += 1
            continue
        new = NewPair(prompt=pair.prompt, a=pair.chosen, b=pair.rejected, origin=pair.origin)
        rows.append(pair_values(platform.settings, new, rank(pair)))
    count = select(func.count()).select_from(PairRow)
    with platform.database.write() as session:
        before = session.scalar(count) or 0
        upsert(session, PairRow.__table__, rows, update=False)
        imported = (session.scalar(count) or 0) - before
    return Imported(imported=imported, known=len(rows) - imported, refused=refused)


def parse_pairs(text: str) -> list[Pair]:
    """Raises: Invalid: naming the line and what is wrong with it."""
    pairs = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                pairs.append(read_pair(json.loads(line), origin="import"))
            except ValueError as error:
                raise Invalid(f"line {number}: {error}; nothing was imported") from error
    if not pairs:
        raise Invalid("the file holds no pairs; send one JSON object a line with prompt, chosen and rejected")
    return pairs


def pairs_of_job(platform: Platform, job_id: str, limit: int, order: Order = "as_made") -> list[Pair]:
    """Candidate pairs that a reward job left, in the order in which they are worth asking about.

    Raises:
        NotFound: there is no such job.
        Invalid: it left no pairs, or no scores of them.
    """
    row: JobRow = get_job(platform, job_id)
    folder = fetched(platform, row)
    try:
        pairs = list(read_jsonl(folder.artifact("pairs") / "pairs.jsonl", Pair))
    except ValueError as error:
        raise Invalid(
            f"job '{row.name}' ({row.kind}, {row.state}) left no pairs; name a reward job that ended"
        ) from error
    return pairs[:limit] if order == "as_made" else ranked(pairs, _scores(row, folder), order)[:limit]


def ranked(pairs: Sequence[Pair], scores: dict[str, float], order: Order) -> list[Pair]:
    """Those first of which the reward model is least sure; or those that it judges wrongly, the surest first."""
    known = [pair for pair in pairs if pair.id in scores]
    if order == "disagreement":
        return sorted((pair for pair in known if scores[pair.id] < 0), key=lambda pair: scores[pair.id])
    return sorted(known, key=lambda pair: abs(scores[pair.id]))


def _scores(row: JobRow, folder: RunFolder) -> dict[str, float]:
    try:
        path = folder.artifact("scores") / "scores.jsonl"
    except ValueError as error:
        raise Invalid(f"job '{row.name}' ({row.state}) has no scores of its pairs; run it again") from error
    return {score.id: score.difference for score in read_jsonl(path, PairScore)}


def withdraw(platform: Platform, pair_id: str) -> None:
    """Ask nobody any more, and train on no label of it; the labels stay.

    Raises:
        NotFound: there is no such pair.
    """
    gone = update(PairRow).where(PairRow.id == pair_id).values(withdrawn=True, open=False)
    with platform.database.write() as session:
        if session.get(PairRow, pair_id) is None:
            raise NotFound(f"there is no pair '{pair_id}'")
        session.execute(gone)

"""Pairs to label, who looks at which, and the labels given."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from backend.db import upsert
from backend.errors import Conflict, Invalid, NotFound
from backend.jobs.service import get_job
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.preferences.schemas import Imported, LabelSummary, NewLabel, NewPair, NextPair
from backend.preferences.tables import LabelRow, PairLeaseRow, PairRow, Position
from backend.users.tables import UserRow
from trainer.artifacts import RunFolder, read_jsonl
from trainer.spec import Message, Pair, explain

LEASE_SECONDS = 600.0


def pair_values(pair: NewPair) -> dict[str, Any]:
    """A row's columns; the id is a hash of what is to be judged."""
    prompt = [message.model_dump() for message in pair.prompt]
    digest = hashlib.sha256(json.dumps([prompt, pair.a, pair.b]).encode()).hexdigest()[:16]
    return {"id": digest, "prompt": prompt, "a": pair.a, "b": pair.b, "origin": pair.origin, "created": time.time()}


def add_pair(platform: Platform, pair: NewPair) -> PairRow:
    """Queue one pair; the same pair again gives the row that is there."""
    values = pair_values(pair)
    with platform.database.write() as session:
        upsert(session, PairRow.__table__, [values], update=False)
        return session.get_one(PairRow, values["id"])


def add_pairs(platform: Platform, pairs: Iterable[Pair]) -> Imported:
    """Queue pairs; the order on the screen is drawn anew for each person, so `chosen` as `a` gives nothing away."""
    new = (NewPair(prompt=pair.prompt, a=pair.chosen, b=pair.rejected, origin=pair.origin) for pair in pairs)
    rows = list(map(pair_values, new))
    count = select(func.count()).select_from(PairRow)
    with platform.database.write() as session:
        before = session.scalar(count) or 0
        upsert(session, PairRow.__table__, rows, update=False)
        imported = (session.scalar(count) or 0) - before
    return Imported(imported=imported, known=len(rows) - imported)


def parse_pairs(text: str) -> list[Pair]:
    """Raises: Invalid: naming the line and what is wrong with it."""
    pairs = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                pairs.append(Pair.model_validate_json(line))
            except ValidationError as error:
                raise Invalid(f"line {number}: {explain(error)}; nothing was imported") from error
    if not pairs:
        raise Invalid("the file holds no pairs; send one JSON object a line with id, prompt, chosen, rejected, origin")
    return pairs


def pairs_of_job(platform: Platform, job_id: str, limit: int) -> list[Pair]:
    """Candidate pairs that a reward job left.

    Raises:
        NotFound: there is no such job.
        Invalid: it left no pairs.
    """
    row: JobRow = get_job(platform, job_id)
    try:
        folder = RunFolder(row.run_folder).artifact("pairs")
    except ValueError as error:
        raise Invalid(
            f"job '{row.name}' ({row.kind}, {row.state}) left no pairs; name a reward job that ended"
        ) from error
    return list(islice(read_jsonl(folder / "pairs.jsonl", Pair), limit))


def _unlabelled(user: UserRow) -> ColumnElement[bool]:
    return PairRow.id.not_in(select(LabelRow.pair_id).where(LabelRow.user_id == user.id))


def next_pair(platform: Platform, user: UserRow) -> NextPair | None:
    """A pair this user has not labelled, theirs for ten minutes; the same one again until they label it."""
    now = time.time()
    with platform.database.write() as session:
        lease = session.scalar(
            select(PairLeaseRow)
            .join(PairRow)
            .where(PairLeaseRow.user_id == user.id, PairLeaseRow.until > now, _unlabelled(user))
        ) or _take(session, user, now)
        if lease is None:
            return None
        pair = session.get_one(PairRow, lease.pair_id)
        remaining = session.scalar(select(func.count()).select_from(PairRow).where(_unlabelled(user))) or 0
    left, right = (pair.a, pair.b) if lease.position == "ab" else (pair.b, pair.a)
    prompt = [Message.model_validate(message) for message in pair.prompt]
    return NextPair(
        id=pair.id, prompt=prompt, left=left, right=right, position=lease.position, remaining=remaining
    )  # fmt: skip


def _take(session: Session, user: UserRow, now: float) -> PairLeaseRow | None:
    taken = select(PairLeaseRow.pair_id).where(PairLeaseRow.until > now, PairLeaseRow.user_id != user.id)
    # SKIP LOCKED (SQLite has one writer and needs none): two people who ask at once get different pairs.
    query = (
        select(PairRow)
        .where(_unlabelled(user), PairRow.id.not_in(taken))
        .order_by(PairRow.created, PairRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    pair = session.scalar(query)
    if pair is None:
        return None
    position: Position = "ab" if secrets.randbelow(2) else "ba"
    lease = PairLeaseRow(pair_id=pair.id, user_id=user.id, position=position, until=now + LEASE_SECONDS)
    row = {"pair_id": pair.id, "user_id": user.id, "position": position, "until": lease.until}
    upsert(session, PairLeaseRow.__table__, [row], update=True)
    return lease


def add_label(platform: Platform, user: UserRow, label: NewLabel) -> LabelRow:
    """Append a judgement.

    Raises:
        NotFound: there is no such pair.
        Conflict: the answers were shown in the other order.
    """
    row = LabelRow(
        pair_id=label.pair, user_id=user.id, position=label.position, choice=label.choice,
        seconds=label.seconds, note=label.note, created=time.time(),
    )  # fmt: skip
    with platform.database.write() as session:
        if session.get(PairRow, label.pair) is None:
            raise NotFound(f"there is no pair '{label.pair}'; GET /pairs/next gives one")
        lease = session.get(PairLeaseRow, label.pair)
        mine = lease is not None and lease.user_id == user.id
        if lease is not None and mine and lease.position != label.position:
            raise Conflict(
                f"the pair was shown as '{lease.position}', the label says '{label.position}'; load it again"
            )
        session.add(row)
        session.execute(delete(PairLeaseRow).where(PairLeaseRow.pair_id == label.pair, PairLeaseRow.user_id == user.id))
    return row


def summary(platform: Platform, user: UserRow) -> LabelSummary:
    """How far labelling is. One pair may be judged again, so what was judged is counted in pairs."""
    labels, pairs = func.count(), func.count(LabelRow.pair_id.distinct())

    def count(session: Session, what: ColumnElement[int], *where: ColumnElement[bool]) -> int:
        return session.scalar(select(what).select_from(LabelRow).where(*where)) or 0

    with platform.database.read() as session:
        left, right = (count(session, labels, LabelRow.choice == side) for side in ("left", "right"))
        return LabelSummary(
            pairs=session.scalar(select(func.count()).select_from(PairRow)) or 0,
            labelled=count(session, pairs),
            remaining=session.scalar(select(func.count()).select_from(PairRow).where(_unlabelled(user))) or 0,
            mine=count(session, pairs, LabelRow.user_id == user.id),
            left_share=left / (left + right) if left + right else None,
        )

"""Who looks at which pair, and the labels given."""

import secrets
import time
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, func, select
from sqlalchemy.orm import Session, aliased

from backend.db import upsert
from backend.errors import Conflict, NotFound
from backend.platform import Platform
from backend.preferences.schemas import LabelSummary, NewLabel, NextPair, OwnLabel
from backend.preferences.tables import LabelRow, PairLeaseRow, PairRow, Position
from backend.settings import Settings
from backend.users.tables import UserRow
from trainer.spec import Message

LEASE_SECONDS = 600.0
REPEAT_AFTER = 10  # labels between a pair and its hidden repeat, at least
SWAPPED: dict[Position, Position] = {"ab": "ba", "ba": "ab"}


def latest_labels(*where: ColumnElement[bool]) -> Select[LabelRow]:
    """Of each person and pair what was said last, hidden repeats aside; also where that was to undo.

    `where` narrows down the people or the pairs.
    """
    said = select(func.max(LabelRow.id)).where(LabelRow.repeat.is_(False), *where)
    return select(LabelRow).where(LabelRow.id.in_(said.group_by(LabelRow.pair_id, LabelRow.user_id)))


def _judged_by(user: UserRow) -> ColumnElement[bool]:
    """Whether the user's last word on the pair is a label."""
    label, later = aliased(LabelRow), aliased(LabelRow)
    mine = (label.pair_id == PairRow.id, label.user_id == user.id, label.repeat.is_(False), label.choice != "undo")
    replaced = exists().where(
        later.pair_id == label.pair_id, later.user_id == user.id, later.repeat.is_(False), later.id > label.id
    )
    return exists().where(*mine, ~replaced)


def next_pair(platform: Platform, user: UserRow) -> NextPair | None:
    """A pair this user has not labelled, theirs for ten minutes; the same one again until they label it."""
    now = time.time()
    with platform.database.write() as session:
        lease = _held(session, user, now) or _repeat(session, user, platform.settings, now) or _take(session, user, now)
        if lease is None:
            return None
        pair = session.get_one(PairRow, lease.pair_id)
        remaining = _remaining(session, user)
    return _shown(pair, lease.position, remaining)


def _shown(pair: PairRow, position: Position, remaining: int) -> NextPair:
    left, right = (pair.a, pair.b) if position == "ab" else (pair.b, pair.a)
    prompt = [Message.model_validate(message) for message in pair.prompt]
    return NextPair(id=pair.id, prompt=prompt, left=left, right=right, position=position, remaining=remaining)


def _held(session: Session, user: UserRow, now: float) -> PairLeaseRow | None:
    return session.scalar(
        select(PairLeaseRow)
        .join(PairRow)
        .where(PairLeaseRow.user_id == user.id, PairLeaseRow.until > now, PairRow.withdrawn.is_(False))
    )


def _take(session: Session, user: UserRow, now: float) -> PairLeaseRow | None:
    """The head of the queue that nobody else holds."""
    held = exists().where(PairLeaseRow.pair_id == PairRow.id, PairLeaseRow.until > now, PairLeaseRow.user_id != user.id)
    # SKIP LOCKED (SQLite has one writer and needs none): two people who ask at once get different pairs.
    query = (
        select(PairRow)
        .where(PairRow.open.is_(True), ~_judged_by(user), ~held)
        .order_by(PairRow.rank, PairRow.created, PairRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    pair = session.scalar(query)
    return None if pair is None else _lease(session, pair.id, user, "ab" if secrets.randbelow(2) else "ba", now)


def _repeat(session: Session, user: UserRow, settings: Settings, now: float) -> PairLeaseRow | None:
    """Every now and then, a pair this user judged a while ago, unknown to them; every other one the other way round."""
    mine = select(func.count()).select_from(LabelRow).where(LabelRow.user_id == user.id)
    given = session.scalar(mine.where(LabelRow.repeat.is_(False), LabelRow.choice.not_in(("skip", "undo")))) or 0
    repeated = session.scalar(mine.where(LabelRow.repeat.is_(True))) or 0
    if repeated >= int(given * settings.label_repeats):
        return None
    again, held = aliased(LabelRow), exists().where(PairLeaseRow.pair_id == LabelRow.pair_id, PairLeaseRow.until > now)
    seen = exists().where(again.pair_id == LabelRow.pair_id, again.user_id == user.id, again.repeat.is_(True))
    query = (
        latest_labels(LabelRow.user_id == user.id)
        .join(PairRow)
        .where(LabelRow.choice.not_in(("skip", "undo")), ~seen, ~held, PairRow.withdrawn.is_(False))
        .order_by(LabelRow.id)
        .limit(1)
    )
    old = session.scalar(query)
    if old is None or (session.scalar(mine.where(LabelRow.id > old.id)) or 0) < REPEAT_AFTER:
        return None
    position = SWAPPED[old.position] if repeated % 2 == 0 else old.position
    return _lease(session, old.pair_id, user, position, now, repeat=True)


def _lease(
    session: Session, pair_id: str, user: UserRow, position: Position, now: float, repeat: bool = False
) -> PairLeaseRow:
    row = {
        "pair_id": pair_id, "user_id": user.id, "position": position, "repeat": repeat, "until": now + LEASE_SECONDS,
    }  # fmt: skip
    upsert(session, PairLeaseRow.__table__, [row], update=True)
    return PairLeaseRow(**row)


def add_label(platform: Platform, user: UserRow, label: NewLabel) -> LabelRow:
    """Append a judgement.

    Raises:
        NotFound: there is no such pair, or it was withdrawn.
        Conflict: the answers were shown in the other order.
    """
    with platform.database.write() as session:
        pair = session.get(PairRow, label.pair)
        if pair is None or pair.withdrawn:
            fate = "was withdrawn" if pair else "does not exist"
            raise NotFound(f"pair '{label.pair}' {fate}: the label was not kept; GET /pairs/next gives another one")
        lease = session.get(PairLeaseRow, label.pair)
        mine = lease is not None and lease.user_id == user.id
        if lease is not None and mine and lease.position != label.position:
            raise Conflict(
                f"the pair was shown as '{lease.position}', the label says '{label.position}'; load it again"
            )
        row = LabelRow(
            pair_id=label.pair, user_id=user.id, position=label.position, choice=label.choice, seconds=label.seconds,
            note=label.note, reasons=list(label.reasons), repeat=bool(lease and mine and lease.repeat),
            created=time.time(),
        )  # fmt: skip
        _append(session, user, pair, row)
    return row


def undo(platform: Platform, user: UserRow) -> NextPair | None:
    """Take back this user's newest label and show its pair again; nothing where there is none to take back."""
    now = time.time()
    with platform.database.write() as session:
        newest = latest_labels(LabelRow.user_id == user.id).where(LabelRow.choice != "undo")
        row = session.scalar(newest.order_by(LabelRow.id.desc()).limit(1))
        if row is None:
            return None
        pair = session.get_one(PairRow, row.pair_id)
        taken_back = LabelRow(
            pair_id=pair.id, user_id=user.id, position=row.position, choice="undo", seconds=0, note="", reasons=[],
            created=now,
        )  # fmt: skip
        _append(session, user, pair, taken_back)
        session.execute(delete(PairLeaseRow).where(PairLeaseRow.user_id == user.id))
        _lease(session, pair.id, user, row.position, now)
        return _shown(pair, row.position, _remaining(session, user))


def _append(session: Session, user: UserRow, pair: PairRow, row: LabelRow) -> None:
    """The row, and what follows from it: the lease ends, and the pair is open while people are wanted."""
    session.add(row)
    session.flush()
    session.execute(delete(PairLeaseRow).where(PairLeaseRow.pair_id == pair.id, PairLeaseRow.user_id == user.id))
    said = latest_labels(LabelRow.pair_id == pair.id).subquery()
    counted = select(func.count()).select_from(said).where(said.c.choice.not_in(("skip", "undo")))
    pair.judged = session.scalar(counted) or 0
    pair.open = pair.judged < pair.wanted and not pair.withdrawn


def own_labels(platform: Platform, user: UserRow, limit: int) -> list[OwnLabel]:
    """This user's newest labels with what they saw."""
    newest = latest_labels(LabelRow.user_id == user.id).where(LabelRow.choice != "undo")
    with platform.database.read() as session:
        rows = list(session.scalars(newest.order_by(LabelRow.id.desc()).limit(limit)))
        wanted = select(PairRow).where(PairRow.id.in_([row.pair_id for row in rows]))
        pairs = {pair.id: pair for pair in session.scalars(wanted)}
    return [_own(row, _shown(pairs[row.pair_id], row.position, 0)) for row in rows]


def _own(row: LabelRow, shown: NextPair) -> OwnLabel:
    seen = {"prompt": shown.prompt, "left": shown.left, "right": shown.right}
    return OwnLabel.model_validate(label_fields(row) | seen)


def label_fields(row: LabelRow) -> dict[str, Any]:
    """What a label says, for those who gave it: not whether it was a repeat."""
    return {
        "id": row.id, "pair": row.pair_id, "position": row.position, "choice": row.choice, "seconds": row.seconds,
        "note": row.note, "reasons": row.reasons, "created": row.created,
    }  # fmt: skip


def _remaining(session: Session, user: UserRow) -> int:
    """Open pairs that this user has not judged: all open ones but those they did."""
    everything = select(func.count()).select_from(PairRow).where(PairRow.open.is_(True))
    seen = select(LabelRow.pair_id).where(LabelRow.user_id == user.id)
    judged = everything.where(PairRow.id.in_(seen), _judged_by(user))
    return (session.scalar(everything) or 0) - (session.scalar(judged) or 0)


def summary(platform: Platform, user: UserRow) -> LabelSummary:
    """How far labelling is. One pair may be judged by several, so what was judged is counted in pairs."""
    said = latest_labels().where(LabelRow.choice != "undo").subquery()
    with platform.database.read() as session:
        left, right = (
            session.scalar(select(func.count()).select_from(said).where(said.c.choice == side)) or 0
            for side in ("left", "right")
        )
        pairs = func.count(said.c.pair_id.distinct())
        return LabelSummary(
            pairs=session.scalar(select(func.count()).select_from(PairRow).where(PairRow.withdrawn.is_(False))) or 0,
            labelled=session.scalar(select(pairs)) or 0,
            remaining=_remaining(session, user),
            mine=session.scalar(select(pairs).where(said.c.user_id == user.id)) or 0,
            left_share=left / (left + right) if left + right else None,
        )

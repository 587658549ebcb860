"""Problems to review, who looks at which, and what was decided. Problems stay in the run folder; decisions are rows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from backend.db import upsert
from backend.errors import Conflict, Invalid, NotFound
from backend.jobs.claims import rowcount
from backend.jobs.files import fetched
from backend.jobs.rows import Rows
from backend.jobs.service import get_job
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.reviews.checking import checked
from backend.reviews.schemas import NewReview, Place, QueueSchema, ReviewItem, Split
from backend.reviews.tables import ReviewLeaseRow, ReviewRow
from backend.users.tables import UserRow

LEASE_SECONDS = 600.0
ALIVE = ReviewRow.undone.is_(None)
DECIDED = (ALIVE, ReviewRow.decision != "skip")


@dataclass(frozen=True)
class Queue:
    """The problems of one split. A job that was reused shares its donor's problems, so their reviews too."""

    job_id: str
    split: Split
    rows: Rows

    def of(self, table: type[ReviewRow] | type[ReviewLeaseRow]) -> tuple[ColumnElement[bool], ...]:
        return table.job_id == self.job_id, table.split == self.split

    def lease(self, number: int) -> tuple[ColumnElement[bool], ...]:
        return *self.of(ReviewLeaseRow), ReviewLeaseRow.number == number


def find_queues(platform: Platform) -> list[QueueSchema]:
    """Jobs whose problems can be reviewed, newest first."""
    wanted = (JobRow.kind == "synthesize", JobRow.state == "succeeded", JobRow.reused_from.is_(None))
    query = select(JobRow).where(*wanted).order_by(JobRow.finished.desc()).limit(100)
    with platform.database.read() as session:
        return [QueueSchema(job=row.id, name=row.name, finished=row.finished) for row in session.scalars(query)]


def open_queue(platform: Platform, place: Place) -> Queue:
    """Raises: NotFound, Invalid: there is no such job, or it left no problems."""
    row = get_job(platform, place.job)
    if row.kind != "synthesize" or row.state != "succeeded":
        raise Invalid(
            f"job '{row.name}' ({row.kind}, {row.state}) left no problems to review; name a synthesize job that ended"
        )
    path = fetched(platform, row).artifact("problems") / f"{place.split}.jsonl"
    return Queue(row.reused_from or row.id, place.split, Rows([path]))


def next_item(platform: Platform, user: UserRow, place: Place) -> ReviewItem | None:
    """The first problem that is neither decided, nor skipped by this user, nor before somebody else's eyes.

    It is theirs for ten minutes; the same one again until they decide.
    """
    queue, now = open_queue(platform, place), time.time()
    with platform.database.write() as session:
        number = _held(session, user, queue, now)
        if number is None:
            number = _take(session, user, queue, now)
        remaining = _remaining(session, queue)
    return None if number is None else _item(queue, number, remaining)


def _item(queue: Queue, number: int, remaining: int) -> ReviewItem:
    problem = queue.rows.row(number)
    return ReviewItem(job=queue.job_id, split=queue.split, number=number, problem=problem, remaining=remaining)


def _remaining(session: Session, queue: Queue) -> int:
    decided = select(func.count()).select_from(ReviewRow).where(*queue.of(ReviewRow), *DECIDED)
    return queue.rows.total - (session.scalar(decided) or 0)


def _held(session: Session, user: UserRow, queue: Queue, now: float) -> int | None:
    mine = (*queue.of(ReviewLeaseRow), ReviewLeaseRow.user_id == user.id, ReviewLeaseRow.until > now)
    return session.scalar(select(ReviewLeaseRow.number).where(*mine).order_by(ReviewLeaseRow.until.desc()).limit(1))


def _take(session: Session, user: UserRow, queue: Queue, now: float) -> int | None:
    """Lease the first free problem. Where somebody else got it in the same moment (PostgreSQL), the next one."""
    for number in _free(session, user, queue, now):
        if _lease(session, user, queue, number, now):
            return number
    return None


def _free(session: Session, user: UserRow, queue: Queue, now: float) -> Iterator[int]:
    # Leases are read first: a decision that ends one in between is then seen as a decision.
    leased = select(ReviewLeaseRow.number).where(*queue.of(ReviewLeaseRow), ReviewLeaseRow.until > now)
    skipped = (ALIVE, ReviewRow.decision == "skip", ReviewRow.user_id == user.id)
    taken = set(session.scalars(leased))
    for rows in (DECIDED, skipped):
        taken |= set(session.scalars(select(ReviewRow.number).where(*queue.of(ReviewRow), *rows)))
    return (number for number in range(queue.rows.total) if number not in taken)


def _lease(session: Session, user: UserRow, queue: Queue, number: int, now: float) -> bool:
    """Whether the problem is this user's now."""
    session.execute(delete(ReviewLeaseRow).where(*queue.lease(number), ReviewLeaseRow.until <= now))
    row = {"job_id": queue.job_id, "split": queue.split, "number": number, "user_id": user.id}
    upsert(session, ReviewLeaseRow.__table__, [row | {"until": now + LEASE_SECONDS}], update=False)
    return session.scalar(select(ReviewLeaseRow.user_id).where(*queue.lease(number))) == user.id


def decide(platform: Platform, user: UserRow, review: NewReview) -> ReviewRow:
    """Record a decision on a problem this user holds; an edited one is checked again first.

    Raises:
        NotFound: there is no such problem.
        Invalid: the edited problem is not true.
        Conflict: somebody else took it since, or it was decided.
    """
    queue = open_queue(platform, review)
    if review.number >= queue.rows.total:
        raise NotFound(f"split '{review.split}' has no problem {review.number}; it has {queue.rows.total}")
    edited = checked(review.problem) if review.problem is not None else None
    row = ReviewRow(
        job_id=queue.job_id, split=queue.split, number=review.number, user_id=user.id, decision=review.decision,
        family=str(queue.rows.row(review.number)["family"]), reason=review.reason.strip(), problem=edited,
        seconds=review.seconds, created=time.time(),
    )  # fmt: skip
    with platform.database.write() as session:
        _give_back(session, user, queue, review.number)
        session.add(row)
    return row


def _give_back(session: Session, user: UserRow, queue: Queue, number: int) -> None:
    mine = delete(ReviewLeaseRow).where(*queue.lease(number), ReviewLeaseRow.user_id == user.id)
    if rowcount(session, mine) == 0:
        raise Conflict(f"problem {number} is no longer yours: its time ran out, or it was decided; load the next one")


def undo(platform: Platform, user: UserRow, place: Place) -> ReviewItem:
    """Take back this user's last decision of a split; the problem is before their eyes again.

    Raises:
        Conflict: there is nothing to take back, or somebody else looks at what was skipped.
    """
    queue, now = open_queue(platform, place), time.time()
    with platform.database.write() as session:
        mine = (*queue.of(ReviewRow), ALIVE, ReviewRow.user_id == user.id)
        last = session.scalar(select(ReviewRow).where(*mine).order_by(ReviewRow.id.desc()).limit(1))
        if last is None:
            raise Conflict("there is nothing to undo: you have decided no problem of this split")
        session.execute(update(ReviewRow).where(ReviewRow.id == last.id).values(undone=now))
        decided = (ReviewRow.number == last.number, *queue.of(ReviewRow), *DECIDED)
        others = session.scalar(select(ReviewRow.id).where(*decided, ReviewRow.user_id != user.id))
        if others is not None or not _lease(session, user, queue, last.number, now):
            raise Conflict("you skipped that problem, and somebody else has taken it since; it stays with them")
        remaining = _remaining(session, queue)
    return _item(queue, last.number, remaining)


def decisions(session: Session, job_id: str) -> dict[tuple[str, int], tuple[str, Any]]:
    """(split, number) -> decision and edited problem, of every decided problem of a job."""
    query = select(ReviewRow.split, ReviewRow.number, ReviewRow.decision, ReviewRow.problem)
    found = session.execute(query.where(ReviewRow.job_id == job_id, *DECIDED))
    return {(split, number): (decision, problem) for split, number, decision, problem in found}

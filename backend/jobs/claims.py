"""Who may run a job: conditional updates, so that of two workers one gets it and a late one changes nothing."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from backend.db import Database
from backend.jobs.tables import JobRow

MAX_RESUMES = 5


class LeaseLost(Exception):
    """Another attempt owns the job now; whoever gets this stops its process and writes nothing more."""


@dataclass(frozen=True)
class Claim:
    """The right to run a job, until a newer attempt exists."""

    job_id: str
    attempt: int


def rowcount(session: Session, statement: Any) -> int:
    """Rows a writing statement changed."""
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


def claim(database: Database, job_id: str, worker: str, now: float, lease_seconds: float) -> Claim | None:
    """Take the first queued job, in recipe order, of the pipeline this job belongs to; none when there is nothing.

    A message means that its pipeline has work: of several ready jobs the earliest of the recipe runs first, however
    the messages were ordered. A message that comes twice finds nothing to do.
    """
    # On PostgreSQL another worker may take the job between the look and the update: then the next one is tried.
    while True:
        with database.write() as session:
            first = _first_queued(session, job_id)
            if first is None:
                return None
            taken = (
                update(JobRow)
                .where(JobRow.id == first.id, JobRow.state == "queued", JobRow.attempt == first.attempt)
                .values(state="running", attempt=first.attempt + 1, worker=worker, lease_until=now + lease_seconds)
                .values(started=first.started or now, finished=None, error=None, seconds_left=None)
                .execution_options(synchronize_session=False)
            )
            if rowcount(session, taken) == 1:
                return Claim(first.id, first.attempt + 1)


def _first_queued(session: Session, job_id: str) -> JobRow | None:
    row = session.get(JobRow, job_id)
    if row is None:
        return None
    same = JobRow.id == job_id if row.pipeline_id is None else JobRow.pipeline_id == row.pipeline_id
    return session.scalar(select(JobRow).where(same, JobRow.state == "queued").order_by(JobRow.position).limit(1))


def update_mine(session: Session, mine: Claim, **values: Any) -> None:
    """Write to the row of a job this attempt runs.

    Raises:
        LeaseLost: the job is no longer this attempt's.
    """
    statement = (
        update(JobRow)
        .where(JobRow.id == mine.job_id, JobRow.attempt == mine.attempt, JobRow.state == "running")
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if rowcount(session, statement) != 1:
        raise LeaseLost(f"job {mine.job_id}: attempt {mine.attempt} is not the newest any more")


def finish_values(state: str, now: float, error: str | None = None) -> dict[str, Any]:
    return {"state": state, "finished": now, "error": error, "lease_until": None, "seconds_left": None, "worker": None}


def cancelled_values(now: float) -> dict[str, Any]:
    """What a job's row says after somebody cancelled it."""
    return finish_values("cancelled", now) | {"message": "cancelled on request"}


def after_loss(row: JobRow, snapshot_step: int, reason: str, now: float) -> dict[str, Any]:
    """What becomes of a job whose process is gone: queued again, unless it keeps dying without getting further.

    Args:
        snapshot_step: step of its newest complete snapshot or checkpoint, -1 without one.
    """
    if row.cancel_requested:
        return cancelled_values(now)
    resumes = 1 if snapshot_step > row.resumed_step else row.resumes + 1
    if resumes > MAX_RESUMES:
        return finish_values("failed", now, f"{reason}; it was resumed {MAX_RESUMES} times without getting further")
    return {
        "state": "queued", "lease_until": None, "worker": None, "sent": None, "seconds_left": None,
        "resumes": resumes, "resumed_step": snapshot_step, "message": f"{reason}; resuming ({resumes})",
    }  # fmt: skip

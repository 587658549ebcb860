"""Jobs that wait: queued when what they read is there, cancelled when it never will be, reused when already known."""

import logging
import time
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from backend.jobs.binding import Bound, bind
from backend.jobs.claims import finish_values
from backend.jobs.reuse import is_intact
from backend.jobs.tables import JobRow
from backend.platform import Platform

logger = logging.getLogger(__name__)


def advance(platform: Platform) -> None:
    """Move every waiting job as far as it can go, then tell the broker of queued jobs it has not heard of.

    Safe to call from anywhere and at any time: each step is a conditional update.
    """
    while _advance_once(platform):
        pass
    send_unsent(platform)


def send_unsent(platform: Platform) -> None:
    unsent = (JobRow.state == "queued", JobRow.sent.is_(None))
    with platform.database.read() as session:
        ids = list(session.scalars(select(JobRow.id).where(*unsent).order_by(JobRow.created, JobRow.position)))
    if not ids:
        return
    sent = platform.messages.send(ids)
    with platform.database.write() as session:
        session.execute(update(JobRow).where(JobRow.id.in_(sent), *unsent).values(sent=time.time()))


def _advance_once(platform: Platform) -> bool:
    """One look at every waiting job; whether any moved."""
    query = select(JobRow).where(JobRow.state == "waiting").order_by(JobRow.created, JobRow.position)
    with platform.database.read() as session:
        waiting = list(session.scalars(query))
        wanted = {job_id for row in waiting for job_id in row.sources.values()}
        sources = {row.id: row for row in session.scalars(select(JobRow).where(JobRow.id.in_(wanted)))}
    moved = [_move(platform, row, [sources[job_id] for job_id in row.sources.values()]) for row in waiting]
    return any(moved)


def _move(platform: Platform, row: JobRow, sources: list[JobRow]) -> bool:
    now = time.time()
    for source in sorted(sources, key=lambda source: source.state != "failed"):
        if source.state == "failed" and source.parent_id == row.id:
            return _set(platform, row, finish_values("failed", now, f"job '{source.name}' failed: {source.error}"))
        if source.state in ("failed", "cancelled"):
            verb = "failed" if source.state == "failed" else "was cancelled"
            message = f"cancelled because job '{source.name}' {verb}"
            return _set(platform, row, finish_values("cancelled", now) | {"message": message})
    if any(source.state != "succeeded" for source in sources):
        return False
    try:
        bound = bind(platform, row)
        donor = _find_donor(platform, bound) if row.reuse else None
    except ValueError as error:
        return _set(platform, row, finish_values("failed", now, str(error)))
    except OSError as error:
        logger.warning("job %s waits, since what it reads cannot be looked at: %s", row.id, error)
        return False
    values = {"dataset_id": bound.dataset_id, "reuse_key": bound.reuse_key}
    return _set(platform, row, values | (_reused(donor, now) if donor else {"state": "queued", "sent": None}))


def _find_donor(platform: Platform, bound: Bound) -> JobRow | None:
    """The newest succeeded job with the same key whose run folder is still whole."""
    if bound.reuse_key is None:
        return None
    query = (
        select(JobRow)
        .where(JobRow.reuse_key == bound.reuse_key, JobRow.state == "succeeded", JobRow.reused_from.is_(None))
        .order_by(JobRow.finished.desc())
    )
    with platform.database.read() as session:
        donors = list(session.scalars(query))
    return next((donor for donor in donors if _is_there(platform, donor)), None)


def _is_there(platform: Platform, donor: JobRow) -> bool:
    folder = Path(donor.run_folder)
    return is_intact(folder, donor.content_key) if folder.is_dir() else platform.store.has(folder)


def _reused(donor: JobRow, now: float) -> dict[str, Any]:
    return finish_values("succeeded", now) | {
        "reused_from": donor.id, "run_folder": donor.run_folder, "content_key": donor.content_key, "started": now,
        "step": donor.step, "total_steps": donor.total_steps, "message": f"reused from job {donor.id}",
    }  # fmt: skip


def _set(platform: Platform, row: JobRow, values: dict[str, Any]) -> bool:
    """True: also where somebody else was first, since then too the job has moved and others may follow."""
    with platform.database.write() as session:
        session.execute(update(JobRow).where(JobRow.id == row.id, JobRow.state == "waiting").values(**values))
    return True

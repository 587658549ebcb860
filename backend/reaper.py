"""What every backend and worker does every few seconds: find lost jobs, move waiting ones, send forgotten ones."""

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from backend.deployments.usage import ingest
from backend.jobs.advance import advance
from backend.jobs.claims import after_loss, rowcount
from backend.jobs.tables import JobRow
from backend.launcher import snapshot_step
from backend.platform import Platform
from trainer.artifacts import RunFolder

logger = logging.getLogger(__name__)


def requeue_lost(platform: Platform) -> int:
    """Queue running jobs again whose lease has run out: their worker is gone. Returns how many."""
    now = time.time()
    with platform.database.read() as session:
        lost = list(session.scalars(select(JobRow).where(JobRow.state == "running", JobRow.lease_until < now)))
    count = 0
    for row in lost:
        values = after_loss(row, snapshot_step(RunFolder(row.run_folder)), "its worker died", now)
        # On condition that the lease has not been renewed and no other reaper was first.
        statement = (
            update(JobRow)
            .where(JobRow.id == row.id, JobRow.state == "running", JobRow.attempt == row.attempt)
            .where(JobRow.lease_until < now)
            .values(**values)
        )
        with platform.database.write() as session:
            count += rowcount(session, statement)
    return count


def forget_untaken(platform: Platform) -> int:
    """Mark queued jobs as unsent when the broker has no message left though they were sent long ago.

    With messages left in the broker a worker is merely busy; sending again would only pile them up.
    """
    old = time.time() - platform.settings.lease_seconds
    stale = (JobRow.state == "queued", JobRow.sent < old)
    with platform.database.read() as session:
        if session.scalar(select(JobRow.id).where(*stale).limit(1)) is None:
            return 0
    if platform.messages.length() != 0:
        return 0
    with platform.database.write() as session:
        return rowcount(session, update(JobRow).where(*stale).values(sent=None))


def reap(platform: Platform) -> None:
    requeue_lost(platform)
    forget_untaken(platform)
    advance(platform)


class Ticker:
    """A thread that does a few things every few seconds until it is stopped."""

    def __init__(self, platform: Platform, duties: Sequence[Callable[[Platform], object]]) -> None:
        self._platform = platform
        self._duties = duties
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                for duty in self._duties:
                    duty(self._platform)
            except (SQLAlchemyError, OSError, ValueError):
                # A database that is away or a file that is gone for a moment must not end the watch over the jobs.
                logger.exception("a look for lost jobs failed and is tried again")
            self._stopping.wait(self._platform.settings.reap_seconds)


BACKEND_DUTIES: tuple[Callable[[Platform], object], ...] = (reap, ingest)

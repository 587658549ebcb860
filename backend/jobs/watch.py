"""What a running job's files say, into its row: progress, metrics, checkpoints, and the lease."""

import time
from typing import Any

from backend.jobs import metrics
from backend.jobs.claims import Claim, update_mine
from backend.jobs.tables import JobRow
from backend.models import service as models
from backend.platform import Platform
from trainer.artifacts import RunFolder


class Pace:
    """Seconds left, from the steps this attempt has taken since it was first seen."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def seconds_left(self, step: int, total: int, now: float) -> float | None:
        if self._first is None or step < self._first[0]:
            self._first = (step, now)
        taken, elapsed = step - self._first[0], now - self._first[1]
        return elapsed / taken * (total - step) if taken > 0 and total >= step else None


class Watcher:
    """One attempt's eyes on its run folder. Files are read first; the transaction only writes."""

    def __init__(self, platform: Platform, mine: Claim, row: JobRow) -> None:
        self.mine = mine
        self._platform = platform
        self._run = RunFolder(row.run_folder)
        self._reader = metrics.MetricsReader(self._run.metrics_file)
        self._seq = row.metric_seq
        self._pace = Pace()
        self._written: dict[str, Any] = {}
        self._renew_at = 0.0

    def tick(self, force: bool = False) -> bool:
        """Copy what is new and renew the lease in time; whether the job is to be cancelled.

        Args:
            force: look at everything, for the last time.

        Raises:
            LeaseLost: another attempt owns the job.
        """
        now = time.time()
        progress, batch = self._progress(now), self._reader.read()
        due = force or now >= self._renew_at
        checkpoints = models.found_in(self._run, self.mine.job_id) if due else []
        if progress != self._written or batch is not None or due:
            lease = self._platform.settings.lease_seconds
            with self._platform.database.write() as session:
                update_mine(session, self.mine, **progress, lease_until=now + lease)
                if batch is not None:
                    seq = metrics.store(session, self.mine.job_id, batch, self._seq)
                    update_mine(session, self.mine, metric_seq=seq)
                models.record(session, checkpoints)
            if batch is not None:
                self._seq = seq
            self._written, self._renew_at = progress, now + lease / 3
        return self._cancel_requested()

    def _progress(self, now: float) -> dict[str, Any]:
        status = self._run.status()
        if status is None or status.attempt != self.mine.attempt:
            return {}
        left = self._pace.seconds_left(status.step, status.total_steps, now)
        return {
            "step": status.step,
            "total_steps": status.total_steps,
            "message": status.message,
            "seconds_left": round(left, 1) if left is not None else None,
        }

    def _cancel_requested(self) -> bool:
        with self._platform.database.read() as session:
            row = session.get(JobRow, self.mine.job_id)
        return row is not None and row.cancel_requested

"""python -m backend.worker: takes jobs and supervises their processes. It loads no torch itself.

One thread a job, in one process: the main thread stays free for Celery, and the kernel ends the job's process when
this one dies.
"""

import os
import platform as machine
import time
from threading import Event

from celery import Celery, signals

from backend.db import upsert
from backend.jobs.claims import claim
from backend.jobs.tables import WorkerRow
from backend.launcher import run_job
from backend.messages import TASK, celery_app
from backend.platform import Platform
from backend.reaper import Ticker, reap
from backend.schema import require_database, wait_until_migrated
from backend.settings import read_settings


class Worker:
    """A worker process: its name, its Celery app, its heartbeat."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.stopping = Event()
        self.started = time.time()
        self.id = f"{machine.node()}-{os.getpid()}"

    def take(self, job_id: str) -> None:
        """The task: claim and run. A message that comes twice, or too late, finds nothing to do."""
        if self.stopping.is_set():
            return
        lease = self.platform.settings.lease_seconds
        mine = claim(self.platform.database, job_id, self.id, time.time(), lease)
        if mine is not None:
            run_job(self.platform, mine, self.stopping)

    def heartbeat(self, platform: Platform) -> None:
        row = {
            "id": self.id, "host": machine.node(), "device": platform.settings.device,
            "started": self.started, "seen": time.time(),
        }  # fmt: skip
        with platform.database.write() as session:
            upsert(session, WorkerRow.__table__, [row], update=True)

    def app(self) -> Celery:
        app = celery_app(self.platform.settings)
        app.task(name=TASK)(self.take)
        return app


def main() -> None:
    try:
        platform = Platform.open(read_settings())
    except ValueError as error:
        raise SystemExit(str(error)) from error
    require_database(platform.settings.database_url)
    worker = Worker(platform)
    wait_until_migrated(platform.database, worker.stopping)
    ticker = Ticker(platform, [worker.heartbeat, reap])
    ticker.start()

    def on_shutdown(**_: object) -> None:
        worker.stopping.set()

    # Celery keeps only weak references to receivers; this one lives as long as the worker runs.
    signals.worker_shutting_down.connect(on_shutdown)
    try:
        worker.app().worker_main(
            ["worker", "--pool=threads", f"--concurrency={platform.settings.concurrency}", "--loglevel=INFO",
             "--without-gossip", "--without-mingle", f"--queues={platform.settings.queue}"]
        )  # fmt: skip
    finally:
        worker.stopping.set()
        ticker.stop()
        platform.close()


if __name__ == "__main__":
    main()

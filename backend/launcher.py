"""Start, watch and stop the process of one job."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event

from backend.deployments.deploy import deploy
from backend.jobs.advance import advance
from backend.jobs.binding import bind
from backend.jobs.claims import Claim, LeaseLost, after_loss, cancelled_values, finish_values, update_mine
from backend.jobs.files import last_line
from backend.jobs.reuse import SOURCE_ROOT, content_key
from backend.jobs.tables import JobRow
from backend.jobs.watch import Watcher
from backend.platform import Platform
from backend.store import StoreError
from trainer.artifacts import Run, RunFolder, complete_steps
from trainer.process import EXIT_CANCELLED, EXIT_FAILED
from trainer.spec import Job

logger = logging.getLogger(__name__)
POLL_SECONDS = 0.5
CHILD = Path(__file__).with_name("child.py")


def run_job(platform: Platform, mine: Claim, stopping: Event) -> None:
    """Run a claimed job to its end, then let the jobs that wait for it move.

    Args:
        stopping: set when this worker is to go down: the job saves and is queued again.
    """
    try:
        _run(platform, mine, stopping)
    except LeaseLost as error:
        logger.warning("%s", error)
    advance(platform)


def _run(platform: Platform, mine: Claim, stopping: Event) -> None:
    try:
        row = _prepare(platform, mine)
    except (ValueError, StoreError) as error:
        _finish(platform, mine, finish_values("failed", time.time(), str(error)))
        return
    except OSError as error:
        reason = (
            f"its run folder cannot be written ({error.strerror}: {error.filename}); is the disk full or read-only?"
        )
        _finish(platform, mine, finish_values("failed", time.time(), reason))
        return
    run = RunFolder(row.run_folder)
    watcher = Watcher(platform, mine, row)
    try:
        _while_watching(watcher, partial(_fetch_inputs, platform, run))
        if row.kind == "deploy":
            values = _deploy(platform, row, run, watcher, stopping)
        else:
            returncode = _supervise(platform, row.kind, run, mine, watcher, stopping)
            values = _outcome(platform, mine, run, returncode, stopping.is_set())
        if values["state"] == "succeeded":
            _while_watching(watcher, partial(platform.store.keep, run.path))
    except StoreError as error:
        values = finish_values("failed", time.time(), str(error))
    watcher.tick(force=True)
    _finish(platform, mine, values)


def _fetch_inputs(platform: Platform, run: RunFolder) -> None:
    for folder in run.job().inputs.values():
        platform.store.fetch(Path(folder))


def _while_watching(watcher: Watcher, copy: Callable[[], None]) -> None:
    """Copy to or from the store; gigabytes take longer than a lease."""
    with ThreadPoolExecutor(1) as pool:
        copying = pool.submit(copy)
        while not wait([copying], timeout=POLL_SECONDS).done:
            watcher.tick()
        copying.result()


def _prepare(platform: Platform, mine: Claim) -> JobRow:
    """Write job.json unless an earlier attempt did: labels are frozen once, a resumed job goes on with the same."""
    with platform.database.read() as session:
        row = session.get_one(JobRow, mine.job_id)
    run = RunFolder(row.run_folder)
    if not (run.path / "job.json").is_file():
        bound = bind(platform, row)
        with platform.database.write() as session:
            update_mine(session, mine, dataset_id=bound.dataset_id, reuse_key=bound.reuse_key)
        run.write_job(Job(id=row.id, spec=bound.spec, inputs=bound.inputs))
    return row


def command_for(platform: Platform, kind: str, run: RunFolder) -> list[str]:
    if kind == "export":
        return [sys.executable, "-m", "serving.export", str(run.path)]
    return [*platform.settings.trainer_command, str(run.path)]


def _spawn(command: list[str], run: RunFolder, attempt: int) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, its output appended to the log."""
    paths = [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "OCTAVO_ATTEMPT": str(attempt),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
    }
    with open(run.log_file, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )  # fmt: skip


def _supervise(platform: Platform, kind: str, run: RunFolder, mine: Claim, watcher: Watcher, stopping: Event) -> int:
    """Watch the process until it ends; returns its return code, negative for the signal that killed it."""
    process = _spawn(command_for(platform, kind, run), run, mine.attempt)
    kill_at: float | None = None
    try:
        while True:
            try:
                return process.wait(timeout=POLL_SECONDS)
            except subprocess.TimeoutExpired:
                cancelled = watcher.tick()
            if kill_at is None and (cancelled or stopping.is_set()):
                process.terminate()
                kill_at = time.monotonic() + platform.settings.stop_seconds
            elif kill_at is not None and time.monotonic() > kill_at:
                _kill(process)
    finally:
        # Also when the lease is lost or the database fails: nobody would watch the process any more.
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the process's group."""
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(platform: Platform, mine: Claim, run: RunFolder, returncode: int, stopping: bool) -> dict[str, object]:
    """What the row is to say after the process has ended."""
    status = run.status()
    if status is not None and status.attempt != mine.attempt:
        status = None  # of an earlier attempt: this one died before it could say anything
    with platform.database.read() as session:
        row = session.get_one(JobRow, mine.job_id)
    now = time.time()
    if returncode == 0 and status is not None and status.state == "succeeded":
        return finish_values("succeeded", now) | {"content_key": content_key(run.path), "message": status.message}
    if returncode == EXIT_FAILED:
        reason = status.error if status is not None and status.error else last_line(run.log_file)
        return finish_values("failed", now, " ".join((reason or "no reason was logged").split()))
    if returncode == 0:
        return finish_values("failed", now, "the process ended without a result; its log has its last words")
    if stopping and not row.cancel_requested:
        return {"state": "queued", "lease_until": None, "worker": None, "sent": None, "seconds_left": None,
                "message": "the worker was stopped; resuming"}  # fmt: skip
    return after_loss(row, snapshot_step(run), _loss(returncode), now)


def snapshot_step(run: RunFolder) -> int:
    """Step of the newest complete snapshot or checkpoint, -1 without one."""
    folders = complete_steps(run.volatile) + complete_steps(run.checkpoints)
    return max((int(folder.name.removeprefix("step_")) for folder in folders), default=-1)


def _loss(returncode: int) -> str:
    if returncode == EXIT_CANCELLED:
        return "the process was told to stop, though not by a cancel"
    if returncode < 0:
        return f"the process was killed by {signal.Signals(-returncode).name}"
    return f"the process ended with the unexpected exit status {returncode}"


def _deploy(platform: Platform, row: JobRow, run: RunFolder, watcher: Watcher, stopping: Event) -> dict[str, object]:
    report = Run(run, attempt=watcher.mine.attempt)

    def wait(seconds: float) -> bool:
        return watcher.tick() or stopping.wait(seconds)

    try:
        done = deploy(platform, row.sources["export"], report, wait)
    except ValueError as error:
        report.finish("failed", str(error))
        return finish_values("failed", time.time(), str(error))
    if done:
        report.finish("succeeded")
        return finish_values("succeeded", time.time())
    report.finish("cancelled")
    if stopping.is_set():
        return {"state": "queued", "lease_until": None, "worker": None, "sent": None}
    return cancelled_values(time.time())


def _finish(platform: Platform, mine: Claim, values: dict[str, object]) -> None:
    with platform.database.write() as session:
        update_mine(session, mine, **values)

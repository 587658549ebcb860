"""The run-folder contract: names, atomic writes, the COMPLETE marker. Imports no torch.

    runs/<job id>/ job.json  status.json  metrics.jsonl  log.txt  artifacts/<name>/… COMPLETE
                   checkpoints/step_000500/ … COMPLETE        volatile/step_000450/ … COMPLETE

The backend writes job.json once; the process that runs the job writes everything else.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from trainer.spec import Job

State = Literal["running", "succeeded", "failed", "cancelled"]
COMPLETE = "COMPLETE"
Row = TypeVar("Row", bound=BaseModel)


class Status(BaseModel):
    """status.json: what a run says of itself. Times are seconds since the epoch."""

    model_config = ConfigDict(extra="forbid")

    state: State
    attempt: int = 1
    step: int = 0
    total_steps: int = 0
    message: str = ""
    started: float
    updated: float
    error: str | None = None


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` by `text` so that a reader sees the old or the new file, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Raises: ValueError: the file is no JSON; it is named."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_complete(folder: Path) -> bool:
    return (folder / COMPLETE).is_file()


def folder_hashes(folder: Path) -> dict[str, str]:
    """File name -> sha256, as the COMPLETE marker records them.

    Raises:
        ValueError: the folder is not complete.
    """
    if not is_complete(folder):
        raise ValueError(f"{folder} has no {COMPLETE} marker: it was never finished, or does not exist")
    recorded: dict[str, str] = json.loads((folder / COMPLETE).read_text())
    return recorded


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Write a folder that exists for readers only when whole: files first, COMPLETE last, then one rename."""
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        hashes = {
            str(path.relative_to(temporary)): file_sha256(path)
            for path in sorted(temporary.rglob("*"))
            if path.is_file()
        }
        write_atomic(temporary / COMPLETE, json.dumps(hashes, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_jsonl(path: Path, rows: Iterable[BaseModel]) -> int:
    """Write one record a line; returns how many."""
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(row.model_dump_json() + "\n")
            count += 1
    return count


def read_jsonl(path: Path, kind: type[Row]) -> Iterator[Row]:
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield kind.model_validate_json(line)


def rewind_lines(path: Path, step: int) -> None:
    """Take the lines after `step` out of a file of JSON Lines with a `step`; a file that is not there stays so."""
    if path.is_file():
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        write_atomic(path, "".join(line + "\n" for line in kept))


class RunFolder:
    """Paths and files of one run; safe to open from the backend while the run is going on."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.artifacts = self.path / "artifacts"
        self.checkpoints = self.path / "checkpoints"
        self.volatile = self.path / "volatile"
        self.log_file = self.path / "log.txt"
        self.metrics_file = self.path / "metrics.jsonl"

    def write_job(self, job: Job) -> None:
        write_atomic(self.path / "job.json", job.model_dump_json(indent=1))

    def job(self) -> Job:
        """The job this folder was made for.

        Raises:
            ValueError: there is no job.json, or it does not parse.
        """
        path = self.path / "job.json"
        if not path.is_file():
            raise ValueError(f"{path} does not exist: this is no run folder")
        return Job.model_validate_json(path.read_text())

    def status(self) -> Status | None:
        path = self.path / "status.json"
        return Status.model_validate_json(path.read_text()) if path.is_file() else None

    def write_status(self, status: Status) -> None:
        write_atomic(self.path / "status.json", status.model_dump_json())

    def artifact(self, name: str) -> Path:
        """A complete artifact folder.

        Raises:
            ValueError: it is missing or was not finished.
        """
        folder = self.artifacts / name
        if not is_complete(folder):
            raise ValueError(f"run {self.path.name} left no complete artifact '{name}'; did its job succeed?")
        return folder

    def checkpoint(self) -> Path:
        """The newest complete checkpoint.

        Raises:
            ValueError: there is none.
        """
        found = complete_steps(self.checkpoints)
        if not found:
            raise ValueError(f"run {self.path.name} has no complete checkpoint; did its job succeed?")
        return found[-1]

    def result(self) -> dict[str, Any]:
        """What the stage reports of its outcome (artifacts/result.json), or nothing yet."""
        path = self.artifacts / "result.json"
        return dict(json.loads(path.read_text())) if path.is_file() else {}

    def write_result(self, result: dict[str, Any]) -> None:
        write_atomic(self.artifacts / "result.json", json.dumps(result, indent=1))

    @contextmanager
    def lock(self) -> Iterator[IO[str]]:
        """Hold the folder for one process; released by the kernel when the process dies.

        Raises:
            ValueError: another process is running this job.
        """
        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"run folder {self.path} is in use by another process") from error
            yield file


def step_folder(parent: Path, step: int) -> Path:
    return parent / f"step_{step:06d}"


def complete_steps(parent: Path) -> list[Path]:
    """Complete step folders, oldest first."""
    return sorted(path for path in parent.glob("step_*") if is_complete(path))


class Run:
    """What a running stage holds: its folder, its log, and whether it was asked to stop."""

    def __init__(self, folder: RunFolder, attempt: int = 1) -> None:
        now = time.time()
        self.folder = folder
        self.stop_requested = False
        self._status = Status(state="running", attempt=attempt, started=now, updated=now)
        folder.artifacts.mkdir(parents=True, exist_ok=True)
        folder.write_status(self._status)

    def input(self, role: str) -> RunFolder:
        """The run folder bound to an input role.

        Raises:
            ValueError: nothing is bound to it, or the folder is gone.
        """
        path = self.folder.job().inputs.get(role)
        if path is None or not Path(path).is_dir():
            raise ValueError(f"input '{role}' points to {path or 'nothing'}, which is no run folder")
        return RunFolder(path)

    def log(self, message: str) -> None:
        """One line into log.txt (the launcher sends stdout there)."""
        print(f"{time.strftime('%H:%M:%S')} {message}", flush=True)

    def progress(self, step: int, total: int, message: str = "") -> None:
        self._update(step=step, total_steps=total, message=message)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Append one row to metrics.jsonl: {"step", "time", "values"}."""
        line = json.dumps({"step": step, "time": time.time(), "values": values})
        with open(self.folder.metrics_file, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewind_metrics(self, step: int) -> None:
        """Forget rows after `step`, which a resumed run will write again."""
        rewind_lines(self.folder.metrics_file, step)

    def finish(self, state: State, error: str | None = None) -> None:
        self._update(state=state, error=error)

    def _update(self, **values: Any) -> None:
        self._status = self._status.model_copy(update={**values, "updated": time.time()})
        self.folder.write_status(self._status)


def _step_of(line: str) -> float:
    """The step of a row; a line cut off by a crash counts as later than all."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return float("inf")

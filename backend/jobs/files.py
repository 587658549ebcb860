"""What a run folder shows to people: log and artifacts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backend.errors import Invalid, NotFound, Unavailable
from backend.jobs.rows import Page, Rows, page
from backend.jobs.schemas import RowsQuery
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.store import StoreError
from trainer.artifacts import RunFolder, is_complete

LOG_BYTES = 64 * 1024


def fetched(platform: Platform, row: JobRow) -> RunFolder:
    """A job's run folder, fetched from the store where another machine ran it.

    Raises:
        Unavailable: the store does not answer.
    """
    if row.state == "succeeded":
        try:
            platform.store.fetch(Path(row.run_folder))
        except StoreError as error:
            raise Unavailable(str(error)) from error
    return RunFolder(row.run_folder)


def read_log(path: Path, offset: int) -> tuple[str, int]:
    """At most 64 KiB of a log in whole lines, and the offset to ask with next.

    Args:
        offset: in bytes; a negative one counts from the end.
    """
    if not path.is_file():
        return "", 0
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        file.seek(start)
        data = file.read(LOG_BYTES)
    if start + len(data) < size and b"\n" in data:
        data = data[: data.rfind(b"\n") + 1]
    return data.decode("utf-8", errors="replace"), start + len(data)


def last_line(path: Path) -> str:
    """The last line of a log that says something, for a job that left no other reason."""
    lines = [line for line in read_log(path, -4096)[0].splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


@dataclass(frozen=True)
class ArtifactFile:
    path: str
    bytes: int


def list_artifacts(run: RunFolder) -> list[ArtifactFile]:
    """Files under artifacts/; a folder that is not complete does not exist."""
    return [ArtifactFile(str(path.relative_to(run.artifacts)), path.stat().st_size) for path in _files(run.artifacts)]


def _files(artifacts: Path) -> Iterator[Path]:
    if not artifacts.is_dir():
        return
    for entry in sorted(artifacts.iterdir()):
        if entry.is_file() and not entry.name.startswith("."):
            yield entry
        elif entry.is_dir() and is_complete(entry):
            yield from sorted(path for path in entry.rglob("*") if path.is_file())


def find_artifact(run: RunFolder, name: str) -> Path:
    """One file by the path that the list gives.

    Raises:
        NotFound: there is no such file; naming a path outside of the folder finds nothing either.
    """
    path = (run.artifacts / name).resolve()
    if path not in {file.resolve() for file in _files(run.artifacts)}:
        raise NotFound(f"the run has no artifact '{name}'; GET /jobs/{run.path.name}/artifacts lists them")
    return path


def jsonl_files(run: RunFolder, name: str) -> list[Path]:
    """A JSON Lines artifact, or all such files of an artifact folder.

    Raises:
        NotFound: there is no such artifact.
        Invalid: it holds no JSON Lines.
    """
    folder = run.artifacts / name.strip("/")
    inside = [path for path in _files(run.artifacts) if name and path.is_relative_to(folder)]
    found = [path for path in inside or [find_artifact(run, name)] if path.suffix == ".jsonl"]
    if not found:
        raise Invalid(f"artifact '{name}' holds no JSON Lines; a preview reads .jsonl files")
    return found


def preview(run: RunFolder, asked: RowsQuery) -> Page:
    """Raises: NotFound, Invalid: as `jsonl_files`."""
    return page(Rows(jsonl_files(run, asked.artifact)), asked.offset, asked.limit, asked.wanted())

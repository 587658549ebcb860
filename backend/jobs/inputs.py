"""Which job an input may come from, and where its run folder lies."""

import os
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.errors import Invalid
from backend.jobs.tables import JobRow
from trainer.remote import Remote, is_url
from trainer.spec import CleanSpec, ImportSpec, JobSpec

RUN = "run:"
# Role -> kinds of job that leave what the role reads; a role that is not here reads any job. Roles that are numbered,
# such as shard-000, go by their word.
PRODUCERS: dict[str, frozenset[str]] = {
    "documents": frozenset({"clean"}),
    "problems": frozenset({"synthesize"}),
    "dataset": frozenset({"tokenize"}),
    "checkpoint": frozenset({"import", "sft", "dpo", "rlhf"}),
    "pairs": frozenset({"reward"}),
    "baseline": frozenset({"evaluate"}),
    "export": frozenset({"export"}),
    "shard": frozenset({"clean_shard"}),
    "bucket": frozenset({"clean_bucket"}),
}


def with_readable_paths(spec: JobSpec) -> JobSpec:
    """The spec with its folders as absolute paths, since a worker may have another working directory.

    Raises:
        Invalid: a folder does not exist or cannot be read, named.
    """
    if isinstance(spec, ImportSpec):
        return spec.model_copy(update={"source": str(_readable_source(spec))})
    if not isinstance(spec, CleanSpec):
        return spec
    folders = tuple(_absolute(folder) for folder in spec.folders)
    for folder in folders:
        if is_url(folder):
            _check_protocol(spec, folder)
            continue
        if not Path(folder).is_dir():
            raise Invalid(f"job '{spec.name}': folders: '{folder}' is no folder here; give an existing one")
        if not os.access(folder, os.R_OK | os.X_OK):
            raise Invalid(f"job '{spec.name}': folders: '{folder}' cannot be read; check its permissions")
    return spec.model_copy(update={"folders": folders})


def _absolute(folder: str) -> str:
    return folder if is_url(folder) else str(Path(folder).expanduser().absolute())


def _check_protocol(spec: JobSpec, url: str) -> None:
    """Whether anything answers there is seen when the job starts: a request waits for no other server."""
    try:
        Remote(url)
    except ValueError as error:
        raise Invalid(f"job '{spec.name}': folders: {error}") from error


def _readable_source(spec: ImportSpec) -> Path:
    source = Path(spec.source).expanduser().absolute()
    if not source.is_dir() and not (source.is_file() and source.suffix == ".gguf"):
        raise Invalid(
            f"job '{spec.name}': source: '{source}' is no folder and no .gguf file here; give the checkpoint to import"
        )
    if not os.access(source, os.R_OK):
        raise Invalid(f"job '{spec.name}': source: '{source}' cannot be read; check its permissions")
    return source


def resolve_sources(session: Session, spec: JobSpec, earlier: dict[str, JobRow]) -> dict[str, str]:
    """Role -> job id for each input of a spec.

    Args:
        earlier: the recipe's jobs so far by name; empty for a single job.

    Raises:
        Invalid: an input names no job, or one of a kind that does not leave what the role reads.
    """
    sources = {}
    for role, source in spec.inputs.items():
        row = _find(session, source, earlier)
        if row is None:
            known = "the id of an existing job as 'run:<job id>'"
            raise Invalid(f"job '{spec.name}': input '{role}' is '{source}', which is no job; give {known}")
        if role == "labels":
            raise Invalid(f"job '{spec.name}': input 'labels' is bound by the backend at the start; leave it out")
        kinds = PRODUCERS.get(role.rstrip("0123456789").rstrip("-"))
        if kinds is not None and row.kind not in kinds:
            wanted = " or ".join(sorted(kinds))
            raise Invalid(f"job '{spec.name}': input '{role}' reads a {wanted} job, but '{source}' is a {row.kind} job")
        sources[role] = row.id
    return sources


def _find(session: Session, source: str, earlier: dict[str, JobRow]) -> JobRow | None:
    if source.startswith(RUN):
        return session.scalar(select(JobRow).where(JobRow.id == source.removeprefix(RUN)))
    return earlier.get(source)

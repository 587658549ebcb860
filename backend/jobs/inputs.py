"""Which job an input may come from, and where its run folder lies."""

import os
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.datasets.tables import DatasetRow
from backend.errors import Invalid
from backend.jobs.tables import JobRow
from backend.settings import Settings
from backend.uploads import service as uploads
from trainer.remote import Remote, is_url
from trainer.spec import CleanSpec, HubDataset, ImportSpec, JobSpec, SubsetSpec

RUN, DATASET = "run:", "dataset:"
# Role -> kinds of job that leave what the role reads; a role that is not here reads any job. Roles that are numbered,
# such as shard-000, go by their word.
PRODUCERS: dict[str, frozenset[str]] = {
    "documents": frozenset({"clean", "subset"}),
    "problems": frozenset({"synthesize"}),
    "dataset": frozenset({"tokenize"}),
    "checkpoint": frozenset({"import", "sft", "dpo", "rlhf"}),
    "pairs": frozenset({"reward"}),
    "baseline": frozenset({"evaluate"}),
    "evaluation": frozenset({"evaluate"}),
    "export": frozenset({"export"}),
    "knowledge": frozenset({"knowledge"}),
    "shard": frozenset({"clean_shard"}),
    "bucket": frozenset({"clean_bucket"}),
}
# Role -> kind of frozen dataset that can stand in for a job.
FROZEN = {"problems": "reviewed"}


def with_readable_paths(spec: JobSpec, settings: Settings) -> JobSpec:
    """The spec with its folders and uploads as absolute paths, since a worker may have another working directory.

    Raises:
        Invalid: a folder does not exist or cannot be read, named.
        NotFound, Conflict: an upload does not exist or is not whole.
    """
    if isinstance(spec, ImportSpec):
        return spec.model_copy(update={"source": str(_readable_source(spec))})
    if isinstance(spec, SubsetSpec):
        return _with_readable_examples(spec)
    if not isinstance(spec, CleanSpec):
        return spec
    folders = tuple(_absolute(folder) for folder in spec.folders)
    for folder in folders:
        if is_url(folder):
            _check_protocol(spec, folder)
            continue
        if not Path(folder).exists():
            raise Invalid(f"job '{spec.name}': folders: '{folder}' is no folder or file here; give an existing one")
        if not os.access(folder, os.R_OK | (os.X_OK if Path(folder).is_dir() else 0)):
            raise Invalid(f"job '{spec.name}': folders: '{folder}' cannot be read; check its permissions")
    uploaded = tuple(str(uploads.path_of(settings, upload)) for upload in spec.uploads)
    hugging_face = tuple(map(_with_local_path, spec.hugging_face))
    return spec.model_copy(update={"folders": folders, "uploads": uploaded, "hugging_face": hugging_face})


def _with_local_path(wanted: HubDataset) -> HubDataset:
    """A local copy by its absolute path; a name on the hub as it is."""
    path = Path(wanted.name).expanduser()
    return wanted.model_copy(update={"name": str(path.absolute())}) if path.is_dir() else wanted


def _with_readable_examples(spec: SubsetSpec) -> SubsetSpec:
    paths = {}
    for field, is_right in (("examples", Path.is_file), ("folder", Path.is_dir)):
        value: str | None = getattr(spec, field)
        if value is None:
            continue
        path = Path(value).expanduser().absolute()
        if not is_right(path) or not os.access(path, os.R_OK):
            raise Invalid(f"job '{spec.name}': {field}: '{value}' does not exist here or cannot be read")
        paths[field] = str(path)
    return spec.model_copy(update=paths)


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
    """Role -> job id for each input of a spec but frozen datasets, which are there already.

    Args:
        earlier: the recipe's jobs so far by name; empty for a single job.

    Raises:
        Invalid: an input names no job, or one of a kind that does not leave what the role reads.
    """
    sources = {}
    for role, source in spec.inputs.items():
        if source.startswith(DATASET):
            _require_dataset(session, spec, role, source)
            continue
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


def frozen_inputs(spec: JobSpec) -> dict[str, str]:
    """Role -> id of the frozen dataset a spec names for it."""
    named = {role: source for role, source in spec.inputs.items() if source.startswith(DATASET)}
    return {role: source.removeprefix(DATASET) for role, source in named.items()}


def _require_dataset(session: Session, spec: JobSpec, role: str, source: str) -> None:
    row = session.get(DatasetRow, source.removeprefix(DATASET))
    if row is None or row.kind != FROZEN.get(role):
        wanted = ", ".join(f"a {kind} one for '{name}'" for name, kind in FROZEN.items())
        found = "no dataset" if row is None else f"a dataset of kind {row.kind}"
        raise Invalid(f"job '{spec.name}': input '{role}' is '{source}', which is {found}; a dataset can be {wanted}")


def _find(session: Session, source: str, earlier: dict[str, JobRow]) -> JobRow | None:
    if source.startswith(RUN):
        return session.scalar(select(JobRow).where(JobRow.id == source.removeprefix(RUN)))
    return earlier.get(source)

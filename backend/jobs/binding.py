"""What a job that is ready reads: run folders, people's labels as they are now, and the key for reuse."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from backend.datasets.tables import DatasetRow
from backend.jobs.inputs import frozen_inputs
from backend.jobs.reuse import content_key, reuse_key
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.preferences.freeze import freeze_labels
from trainer.spec import JOB_SPEC, JobSpec

LABELS = "labels"


@dataclass(frozen=True)
class Bound:
    """`inputs`: role -> run folder, as job.json wants it."""

    spec: JobSpec
    inputs: dict[str, str]
    dataset_id: str | None
    reuse_key: str | None


def bind(platform: Platform, row: JobRow) -> Bound:
    """Resolve the inputs of a job whose sources have succeeded; reads files, so never inside a transaction.

    Raises:
        ValueError: a folder it reads is gone, or its kind cannot run here.
        OSError: the store or a URL it reads does not answer.
    """
    spec = JOB_SPEC.validate_python(row.spec)
    with platform.database.read() as session:
        found = {job.id: job for job in session.scalars(select(JobRow).where(JobRow.id.in_(row.sources.values())))}
        frozen = {role: session.get_one(DatasetRow, name).folder for role, name in frozen_inputs(spec).items()}
    sources = {role: found[job_id] for role, job_id in row.sources.items()}
    keys: dict[str, str] = {}
    for role, dataset_folder in frozen.items():
        if not Path(dataset_folder).is_dir():
            raise ValueError(f"input '{role}': the folder of the frozen dataset is gone; make it again")
        keys[role] = content_key(Path(dataset_folder))
    for role, source in sources.items():
        folder = Path(source.run_folder)
        if not folder.is_dir() and not platform.store.has(folder):
            raise ValueError(f"input '{role}': the run folder of job {source.id} is gone; run that job again")
        keys[role] = content_key(folder) if folder.is_dir() else source.content_key or ""
    inputs = frozen | {role: source.run_folder for role, source in sources.items()}
    dataset = freeze_labels(platform) if LABELS in spec.optional_roles else None
    if dataset is not None:
        inputs[LABELS] = dataset.folder
        keys[LABELS] = content_key(Path(dataset.folder))
    return Bound(spec, inputs, dataset.id if dataset else None, _key(spec, keys))


def _key(spec: JobSpec, input_keys: dict[str, str]) -> str | None:
    # A deployment is a state of serving, not a result on disk: it is always made sure of.
    if spec.kind == "deploy":
        return None
    return reuse_key(spec, input_keys)

from typing import Any, Self

from pydantic import BaseModel

from backend.jobs.tables import JobRow, JobState


class JobSchema(BaseModel):
    """A job over HTTP; times are seconds since the epoch."""

    id: str
    name: str
    kind: str
    pipeline: str | None
    parent: str | None
    state: JobState
    attempt: int
    step: int
    total_steps: int
    message: str
    error: str | None
    created: float
    started: float | None
    finished: float | None
    reused_from: str | None
    spec: dict[str, Any]
    inputs: dict[str, str]
    labels: str | None
    seconds_left: float | None
    run_folder: str

    @classmethod
    def of(cls, row: JobRow) -> Self:
        return cls(
            id=row.id, name=row.name, kind=row.kind, pipeline=row.pipeline_id,
            parent=row.parent_id, state=row.state, attempt=row.attempt,
            step=row.step, total_steps=row.total_steps, message=row.message, error=row.error, created=row.created,
            started=row.started, finished=row.finished, reused_from=row.reused_from, spec=row.spec,
            inputs=row.sources, labels=row.dataset_id, seconds_left=row.seconds_left, run_folder=row.run_folder,
        )  # fmt: skip


class MetricRowSchema(BaseModel):
    seq: int
    step: int
    time: float
    values: dict[str, float | None]


class MetricsSchema(BaseModel):
    rows: list[MetricRowSchema]
    next: int


class LogSchema(BaseModel):
    text: str
    next: int


class ArtifactSchema(BaseModel):
    path: str
    bytes: int


class RowsSchema(BaseModel):
    rows: list[Any]
    total: int

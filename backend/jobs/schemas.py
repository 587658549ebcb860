from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from backend.jobs.rows import MAX_ROWS, Page, Wanted
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


class RowsQuery(BaseModel):
    """Which rows of which artifact: those that contain `search` and have each `where`, a field and its value."""

    model_config = ConfigDict(extra="forbid")

    artifact: str
    offset: int = Field(0, ge=0)
    limit: int = Field(50, ge=1, le=MAX_ROWS)
    search: str = ""
    where: list[Annotated[str, Field(pattern=r"^\w+:")]] = []

    def wanted(self) -> Wanted:
        fields = (item.partition(":") for item in self.where)
        return Wanted(self.search, tuple((name, value) for name, _, value in fields))


class RowsSchema(BaseModel):
    """`total` counts every row, wanted or not; `next` is the number to look on from, null at the end."""

    rows: list[Any]
    numbers: list[int]
    total: int
    next: int | None

    @classmethod
    def of(cls, page: Page) -> Self:
        return cls(rows=page.rows, numbers=page.numbers, total=page.total, next=page.next)

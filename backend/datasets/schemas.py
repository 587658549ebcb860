from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from backend.datasets.tables import DatasetRow
from backend.reviews.freeze import Include


class DatasetSchema(BaseModel):
    """A frozen dataset, the job it was made of, and what went into it."""

    id: str
    kind: str
    folder: str
    rows: int
    created: float
    job: str | None
    about: dict[str, Any]

    @classmethod
    def of(cls, row: DatasetRow) -> Self:
        return cls(
            id=row.id, kind=row.kind, folder=row.folder, rows=row.rows, created=row.created, job=row.job_id,
            about=row.about,
        )  # fmt: skip


class NewReviewed(BaseModel):
    """`accepted`: only what people accepted or edited; else also what nobody decided but the trainer had verified."""

    model_config = ConfigDict(extra="forbid")

    job: str
    include: Include = "accepted"

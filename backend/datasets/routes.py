from typing import Annotated

from fastapi import APIRouter, Query

from backend.auth import PlatformDep
from backend.datasets import service
from backend.datasets.schemas import DatasetSchema, NewReviewed
from backend.jobs.files import preview
from backend.jobs.schemas import RowsQuery, RowsSchema
from backend.reviews.freeze import freeze_reviewed
from trainer.artifacts import RunFolder

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.get("")
def list_datasets(platform: PlatformDep) -> list[DatasetSchema]:
    """Frozen datasets, newest first: people's labels, and problems that were reviewed."""
    return [DatasetSchema.of(row) for row in service.list_datasets(platform)]


@router.post("/reviewed", status_code=201)
def add_reviewed(platform: PlatformDep, body: NewReviewed) -> DatasetSchema:
    """Freeze what review left of a job's problems; the same decisions give the same dataset."""
    return DatasetSchema.of(freeze_reviewed(platform, body.job, body.include))


@router.get("/{dataset_id}/rows")
def get_rows(platform: PlatformDep, dataset_id: str, asked: Annotated[RowsQuery, Query()]) -> RowsSchema:
    """As `GET /jobs/{job_id}/rows`."""
    return RowsSchema.of(preview(RunFolder(service.get_dataset(platform, dataset_id).folder), asked))

from fastapi import APIRouter

from backend.auth import PlatformDep
from backend.datasets import service
from backend.datasets.schemas import DatasetSchema

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.get("")
def list_datasets(platform: PlatformDep) -> list[DatasetSchema]:
    """Frozen datasets, newest first; so far people's labels."""
    return service.list_datasets(platform)

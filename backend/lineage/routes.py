from fastapi import APIRouter

from backend.auth import PlatformDep
from backend.lineage import service
from backend.lineage.schemas import Lineage

router = APIRouter(prefix="/lineage", tags=["datasets"])


@router.get("/{node_id}")
def lineage(platform: PlatformDep, node_id: str) -> Lineage:
    """What a job or a dataset was made of, and what was made of it."""
    return service.lineage(platform, node_id)

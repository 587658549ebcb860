from fastapi import APIRouter

from backend.auth import PlatformDep
from backend.models import service
from backend.models.schemas import CheckpointSchema

router = APIRouter(prefix="/models", tags=["models"])


@router.get("")
def list_checkpoints(platform: PlatformDep) -> list[CheckpointSchema]:
    return service.list_checkpoints(platform)

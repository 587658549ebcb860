from fastapi import APIRouter

from backend.auth import PlatformDep
from backend.system import service
from backend.system.schemas import SystemSchema

router = APIRouter(prefix="/system", tags=["system"])


@router.get("")
def get_system(platform: PlatformDep) -> SystemSchema:
    return service.look(platform)

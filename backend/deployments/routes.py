from fastapi import APIRouter

from backend.auth import CurrentUser, PlatformDep
from backend.deployments import service, usage
from backend.deployments.schemas import ChangeSchema, DeploymentSchema, LiveSchema, NewDeployment, UsageSchema

router = APIRouter(tags=["deployments"])


@router.get("/deployments")
def list_deployments(platform: PlatformDep) -> list[DeploymentSchema]:
    return service.list_deployments(platform)


@router.post("/deployments", status_code=201)
def create(platform: PlatformDep, user: CurrentUser, new: NewDeployment) -> DeploymentSchema:
    """Serving loads the export beside what it answers with now; its state says when it is ready. With a share below 1,
    both answer afterwards."""
    return service.create(platform, new, user.name)


@router.get("/deployments/live")
def get_live(platform: PlatformDep) -> LiveSchema:
    return service.live(platform)


@router.post("/deployments/{model_name}/rollback")
def roll_back(platform: PlatformDep, user: CurrentUser, model_name: str) -> DeploymentSchema:
    return service.roll_back(platform, model_name, user.name)


@router.get("/deployments/{model_name}/history")
def get_history(platform: PlatformDep, model_name: str) -> list[ChangeSchema]:
    """Newest first; also of a deployment that was removed."""
    return service.list_history(platform, model_name)


@router.delete("/deployments/{model_name}", status_code=204)
def remove(platform: PlatformDep, user: CurrentUser, model_name: str) -> None:
    service.remove(platform, model_name, user.name)


@router.get("/usage")
def get_usage(platform: PlatformDep) -> list[UsageSchema]:
    return usage.by_key(platform)

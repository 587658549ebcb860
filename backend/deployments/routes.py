from fastapi import APIRouter

from backend.auth import PlatformDep
from backend.deployments import service, usage
from backend.deployments.schemas import DeploymentSchema, NewDeployment, UsageSchema

router = APIRouter(tags=["deployments"])


@router.get("/deployments")
def list_deployments(platform: PlatformDep) -> list[DeploymentSchema]:
    return service.list_deployments(platform)


@router.post("/deployments", status_code=201)
def create(platform: PlatformDep, new: NewDeployment) -> DeploymentSchema:
    """Serving loads the export beside what it answers with now; its state says when it is ready."""
    return service.create(platform, new)


@router.delete("/deployments/{model_name}", status_code=204)
def remove(platform: PlatformDep, model_name: str) -> None:
    service.remove(platform, model_name)


@router.get("/usage")
def get_usage(platform: PlatformDep) -> list[UsageSchema]:
    return usage.by_key(platform)

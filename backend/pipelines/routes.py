from typing import Annotated, Any

from fastapi import APIRouter, Body

from backend.auth import PlatformDep
from backend.pipelines import service
from backend.pipelines.schemas import PipelineSchema
from trainer.spec import Recipe, recipe_names

router = APIRouter(tags=["pipelines"])


@router.get("/recipes")
def list_recipes() -> list[str]:
    return recipe_names()


@router.get("/recipes/{name}")
def get_recipe(name: str) -> Recipe:
    return service.find_recipe(name)


@router.post("/pipelines", status_code=201)
def create(platform: PlatformDep, body: Annotated[dict[str, Any], Body()]) -> PipelineSchema:
    """Start a whole recipe, or `{"recipe": name, "overrides": {job: {field: value}}, "reuse": true}`."""
    recipe, reuse = service.parse_recipe(body)
    return service.create(platform, recipe, reuse)


@router.get("/pipelines")
def list_pipelines(platform: PlatformDep) -> list[PipelineSchema]:
    return service.list_newest(platform)


@router.get("/pipelines/{pipeline_id}")
def get_pipeline(platform: PlatformDep, pipeline_id: str) -> PipelineSchema:
    return service.get(platform, pipeline_id)


@router.post("/pipelines/{pipeline_id}/cancel")
def cancel(platform: PlatformDep, pipeline_id: str) -> PipelineSchema:
    return service.cancel(platform, pipeline_id)

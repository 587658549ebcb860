from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from backend.jobs.schemas import JobSchema

PipelineState = Literal["running", "succeeded", "failed", "cancelled"]


class RecipeRequest(BaseModel):
    """A shipped recipe by name, with fields of its jobs changed."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    overrides: dict[str, dict[str, Any]] = {}
    reuse: bool = True


class PipelineSchema(BaseModel):
    id: str
    name: str
    state: PipelineState
    created: float
    jobs: list[JobSchema]

"""Recipes become pipelines: rows of jobs that read from one another."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from backend.errors import Invalid, NotFound
from backend.jobs import service as jobs
from backend.jobs.schemas import JobSchema
from backend.jobs.tables import FINISHED, JobRow
from backend.pipelines.schemas import PipelineSchema, PipelineState, RecipeRequest
from backend.pipelines.tables import PipelineRow
from backend.platform import Platform
from trainer.spec import JOB_SPEC, Recipe, explain, load_recipe, recipe_names


def find_recipe(name: str) -> Recipe:
    """Raises: NotFound: listing the recipes that exist."""
    if name not in recipe_names():
        raise NotFound(f"unknown recipe '{name}'; there are: {', '.join(recipe_names()) or 'none'}")
    return load_recipe(name)


def parse_recipe(body: Mapping[str, Any]) -> tuple[Recipe, bool]:
    """A whole recipe or a request for a shipped one; also whether results may be reused.

    Raises:
        Invalid: a field is wrong, named.
        NotFound: the recipe is unknown.
    """
    try:
        if "recipe" in body:
            request = RecipeRequest.model_validate(body)
            return _override(find_recipe(request.recipe), request.overrides), request.reuse
        rest = dict(body)
        reuse = rest.pop("reuse", True)
        if not isinstance(reuse, bool):
            raise Invalid("reuse: give true or false")
        return Recipe.model_validate(rest), reuse
    except ValidationError as error:
        raise Invalid(explain(error)) from error


def _override(recipe: Recipe, overrides: Mapping[str, Mapping[str, Any]]) -> Recipe:
    raw = recipe.model_dump(mode="json")
    by_name = {job["name"]: job for job in raw["jobs"]}
    for name, fields in overrides.items():
        if name not in by_name:
            raise Invalid(f"overrides: recipe '{recipe.name}' has no job '{name}'; it has {', '.join(by_name)}")
        _merge(by_name[name], fields)
        try:
            JOB_SPEC.validate_python(by_name[name])
        except ValidationError as error:
            raise Invalid(f"overrides: job '{name}': {explain(error)}") from error
    return Recipe.model_validate(raw)


def _merge(target: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change fields in place; an object within an object keeps the fields that are not mentioned."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value


def create(platform: Platform, recipe: Recipe, reuse: bool) -> PipelineSchema:
    rows = jobs.submit(platform, recipe.jobs, pipeline=recipe.name, reuse=reuse)
    assert rows[0].pipeline_id is not None
    return get(platform, rows[0].pipeline_id)


def get(platform: Platform, pipeline_id: str) -> PipelineSchema:
    """Raises: NotFound."""
    with platform.database.read() as session:
        row = session.get(PipelineRow, pipeline_id)
    if row is None:
        raise NotFound(f"there is no pipeline '{pipeline_id}'; GET /pipelines lists them")
    return _schema(row, jobs.find_jobs(platform, pipeline=pipeline_id))


def list_newest(platform: Platform, limit: int = 100) -> list[PipelineSchema]:
    with platform.database.read() as session:
        pipelines = list(session.scalars(select(PipelineRow).order_by(PipelineRow.created.desc()).limit(limit)))
        ids = [row.id for row in pipelines]
        found = session.scalars(select(JobRow).where(JobRow.pipeline_id.in_(ids)).order_by(JobRow.position))
        by_pipeline: dict[str, list[JobRow]] = {pipeline_id: [] for pipeline_id in ids}
        for job in found:
            by_pipeline[job.pipeline_id or ""].append(job)
    return [_schema(row, by_pipeline[row.id]) for row in pipelines]


def cancel(platform: Platform, pipeline_id: str) -> PipelineSchema:
    found = get(platform, pipeline_id)
    jobs.cancel(platform, [job.id for job in found.jobs])
    return get(platform, pipeline_id)


def _schema(row: PipelineRow, found: Sequence[JobRow]) -> PipelineSchema:
    members = [JobSchema.of(job) for job in found]
    return PipelineSchema(id=row.id, name=row.name, state=state_of(found), created=row.created, jobs=members)


def state_of(members: Sequence[JobRow]) -> PipelineState:
    states = {job.state for job in members}
    if not states <= set(FINISHED):
        return "running"
    return "failed" if "failed" in states else "cancelled" if "cancelled" in states else "succeeded"

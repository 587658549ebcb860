"""What a knowledge job's store knows: passages that fit a query, and the graph around an entity, from the trainer."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from backend.asking import ask_trainer
from backend.errors import Invalid
from backend.jobs.files import fetched
from backend.jobs.service import get_job
from backend.platform import Platform

SECONDS = 20.0


class SearchQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=1_000)
    k: int = Field(10, ge=1, le=100)


class GraphQuery(BaseModel):
    """`to`: another entity, to which the shortest path is wanted instead of what is around."""

    model_config = ConfigDict(extra="forbid")

    entity: str = Field(min_length=1, max_length=1_000)
    depth: int = Field(1, ge=1, le=4)
    most: int = Field(60, ge=1, le=1_000)
    to: str | None = Field(None, min_length=1, max_length=1_000)


def search(platform: Platform, job_id: str, asked: SearchQuery) -> Any:
    return _ask(platform, job_id, [f"--k={asked.k}"], asked.query)


def graph(platform: Platform, job_id: str, asked: GraphQuery) -> Any:
    options = ["--entity", f"--depth={asked.depth}", f"--most={asked.most}"]
    return _ask(platform, job_id, options + ([f"--to={asked.to}"] if asked.to is not None else []), asked.entity)


def _ask(platform: Platform, job_id: str, options: list[str], query: str) -> Any:
    """Raises: NotFound, Invalid: no such job, or one that left no store."""
    row = get_job(platform, job_id)
    if row.kind != "knowledge" or row.state != "succeeded":
        raise Invalid(f"job '{row.name}' ({row.kind}, {row.state}) has no store; name a knowledge job that ended")
    # After '--' a query that begins with a dash is no option.
    return ask_trainer(["search", *options, "--", str(fetched(platform, row).path), query], seconds=SECONDS)

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ServingState = Literal["loading", "ready", "failed", "unreachable"]


class NewDeployment(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    job: str = Field(description="id of a succeeded export job")


class ServingReport(BaseModel):
    """What serving says of one deployment."""

    model_name: str
    export: str
    state: Literal["loading", "ready", "failed"]
    error: str | None = None


class DeploymentSchema(BaseModel):
    model_name: str
    job: str
    export: str
    created: float
    state: ServingState
    error: str | None


class UsageSchema(BaseModel):
    """What one key used of one model."""

    key: str
    user: str | None
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int

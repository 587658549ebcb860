from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from backend.deployments.tables import Action

ServingState = Literal["loading", "ready", "failed", "unreachable"]


class NewDeployment(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    job: str = Field(description="id of a succeeded export job")
    share: float = Field(
        1.0, gt=0, le=1, description="of the requests; below 1 it answers beside the one that does now"
    )


class ParitySchema(BaseModel):
    """How close a served network is to the trainer's; differences are of logits, the divergence nats a token."""

    max_difference: float
    choice_agreement: float | None
    mean_kl: float
    top1_agreement: float
    positions: int
    excused: int
    unused_experts: int | None


class GateSchema(BaseModel):
    """What serving's parity gate found, in float32 and in the numbers it answers in."""

    dtype: str
    float32_difference: float | None
    served: ParitySchema


class ServingReport(BaseModel):
    """What serving says of one version of a deployment."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    version: str
    export: str
    state: Literal["loading", "ready", "failed"]
    error: str | None = None
    share: float = 0.0
    gate: GateSchema | None = None


class VersionSchema(BaseModel):
    """`weight` is the share that is wanted, `share` the one it has; with weight 0 it is kept for a rollback."""

    job: str
    export: str
    weight: float
    share: float
    state: ServingState
    error: str | None
    gate: GateSchema | None


class DeploymentSchema(BaseModel):
    """`state` is of what is wanted; what answered before goes on until that is ready (`answers`)."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    since: float
    state: ServingState
    error: str | None
    answers: bool
    versions: list[VersionSchema]
    rollback: dict[str, float] = Field(description="job -> share after a rollback; empty when there is none")


class ChangeSchema(BaseModel):
    time: float
    action: Action
    user: str | None
    versions: dict[str, float] = Field(description="job -> share")


class LatencySchema(BaseModel):
    """A histogram since serving started: how many lasted at most so many seconds; the last bound is infinite (null)."""

    bounds: list[float | None]
    counts: list[int]


class LiveVersionSchema(BaseModel):
    """Counted since serving started; `running` and `waiting` are of now."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    version: str
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    running: int = 0
    waiting: int = 0
    first_token: LatencySchema
    inter_token: LatencySchema


class LiveSchema(BaseModel):
    time: float
    versions: list[LiveVersionSchema]


class UsageSchema(BaseModel):
    """What one key used of one model."""

    key: str
    user: str | None
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int

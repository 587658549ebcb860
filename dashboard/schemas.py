"""What backend and serving answer, as types. Fields that the dashboard does not show are ignored."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JobState = Literal["waiting", "queued", "running", "succeeded", "failed", "cancelled"]
ACTIVE: frozenset[str] = frozenset({"waiting", "queued", "running"})
Choice = Literal["left", "right", "tie", "both_bad", "skip"]


class Schema(BaseModel):
    model_config = ConfigDict(frozen=True)


class Message(Schema):
    role: Literal["system", "user", "assistant"]
    content: str


class User(Schema):
    id: str
    name: str
    role: Literal["admin", "member", "labeller"]


class NewUser(User):
    key: str = Field(description="shown once")


class Job(Schema):
    """Times are seconds since the epoch; `step` counts up to `total_steps`, 0 when unknown."""

    id: str
    name: str
    kind: str
    pipeline: str | None = None
    state: JobState
    attempt: int = 0
    step: int = 0
    total_steps: int = 0
    message: str = ""
    error: str | None = None
    created: float
    started: float | None = None
    finished: float | None = None
    reused_from: str | None = None
    spec: dict[str, Any] = {}
    inputs: dict[str, str] = Field({}, description="role -> id of the job it reads from")
    seconds_left: float | None = None
    run_folder: str = ""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def progress(self) -> float:
        """Share done, in [0, 1]."""
        if self.state == "succeeded":
            return 1.0
        return min(self.step / self.total_steps, 1.0) if self.total_steps else 0.0


class Pipeline(Schema):
    id: str
    name: str
    state: Literal["running", "succeeded", "failed", "cancelled"]
    created: float
    jobs: tuple[Job, ...] = ()

    @property
    def active(self) -> bool:
        return any(job.active for job in self.jobs)


class MetricRow(Schema):
    seq: int
    step: int
    time: float
    values: dict[str, float | None]


class Metrics(Schema):
    rows: tuple[MetricRow, ...]
    next: int


class Log(Schema):
    text: str
    next: int


class Artifact(Schema):
    path: str
    bytes: int


class Rows(Schema):
    rows: tuple[dict[str, Any], ...]
    total: int


class BlindPair(Schema):
    """A pair to judge; `position` says which completion is where and goes back with the label, unread."""

    id: str
    prompt: tuple[Message, ...]
    left: str
    right: str
    position: str
    remaining: int


class LabelSummary(Schema):
    pairs: int
    labelled: int
    remaining: int
    mine: int
    left_share: float | None = None


class Deployment(Schema):
    model_name: str
    state: str = "loading"
    error: str | None = None
    job: str | None = None


class Device(Schema):
    kind: str
    name: str
    cores: int


class Space(Schema):
    """In bytes."""

    total: int
    used: int


class Worker(Schema):
    id: str
    host: str
    device: str
    seen: float
    alive: bool
    job: str | None = None


class Queue(Schema):
    """Jobs by state; `messages` lie in the broker, None when it does not answer."""

    waiting: int
    queued: int
    running: int
    messages: int | None = None


class System(Schema):
    version: str
    device: Device
    cpu_percent: float
    memory: Space
    disk: Space
    workers: tuple[Worker, ...] = ()
    queue: Queue


class Usage(Schema):
    """What one key used of one model."""

    key: str
    user: str | None = None
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int


class TokenUsage(Schema):
    prompt_tokens: int
    completion_tokens: int


class ChatDelta(Schema):
    """One piece of a streamed answer; the last ones carry why it ended and what it used."""

    text: str = ""
    finish_reason: str | None = None
    usage: TokenUsage | None = None


class Sampling(Schema):
    """What the playground sends along with the messages."""

    max_tokens: int = 200
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int | None = None

"""What backend and serving answer, as types. Fields that the dashboard does not show are ignored."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

JobState = Literal["waiting", "queued", "running", "succeeded", "failed", "cancelled"]
ACTIVE: frozenset[str] = frozenset({"waiting", "queued", "running"})
# Stages whose runs leave data rather than a network.
DATA_KINDS: tuple[str, ...] = ("clean", "subset", "synthesize", "tokenize", "knowledge")
Choice = Literal["left", "right", "tie", "both_bad", "skip"]


class Schema(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


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
    parent: str | None = Field(None, description="id of the job of which this one does a part")
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
    def whole_jobs(self) -> tuple[Job, ...]:
        """The jobs of the recipe, without those that do parts of them."""
        return tuple(job for job in self.jobs if job.parent is None)

    def parts(self, job: Job) -> tuple[Job, ...]:
        return tuple(part for part in self.jobs if part.parent == job.id)

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


class BlindPair(Schema):
    """A pair to judge; `position` says which completion is where and goes back with the label, unread."""

    id: str
    prompt: tuple[Message, ...]
    left: str
    right: str
    position: str
    remaining: int


class Rater(Schema):
    """One person as a judge; shares are null where nothing was counted."""

    name: str
    labels: int
    skipped: int
    left: int
    right: int
    median_seconds: float | None
    repeats: int
    consistent: float | None
    swapped: int
    same_side: float | None
    kappa: dict[str, float | None]
    alarms: tuple[str, ...]


class Raters(Schema):
    raters: tuple[Rater, ...]
    shared_pairs: int
    contradicted: int
    alpha: float | None


class Upload(Schema):
    """A file in the platform's home; a clean job can read it once all of it is there."""

    id: str
    name: str
    bytes: int
    received: int
    created: float
    user: str

    @property
    def whole(self) -> bool:
        return self.received == self.bytes


class LabelSummary(Schema):
    pairs: int
    labelled: int
    remaining: int
    mine: int
    left_share: float | None = None


class Parity(Schema):
    mean_kl: float = Field(description="nats a token")
    top1_agreement: float


class Gate(Schema):
    """What serving's parity gate found: in float32, and in the numbers the version answers in."""

    dtype: str
    float32_difference: float | None = Field(None, description="largest, of logits")
    served: Parity


class Version(Schema):
    """An export of a deployment by the id of its job; `weight` is the share that is wanted, `share` the one it has."""

    job: str
    weight: float
    share: float
    state: str
    error: str | None = None
    gate: Gate | None = None


class Deployment(Schema):
    """`state` is of what is wanted; what answered before goes on until that is ready."""

    model_name: str
    since: float
    state: str
    error: str | None = None
    answers: bool
    versions: tuple[Version, ...]
    rollback: dict[str, float] = Field({}, description="job -> share after a rollback")


class Change(Schema):
    time: float
    action: Literal["deploy", "split", "rollback", "restore", "remove"]
    user: str | None = None
    versions: dict[str, float] = Field(description="job -> share; empty once it is removed")


class Latency(Schema):
    """A histogram: how many lasted at most so many seconds, each bucket by itself; a null bound is infinite."""

    bounds: tuple[float | None, ...]
    counts: tuple[int, ...]

    def quantile(self, share: float) -> float | None:
        """Seconds within which that share of them lasted, by linear interpolation inside a bucket.

        None when nothing was counted. What lies in the last, infinite bucket is given as its lower bound.
        """
        rank = share * sum(self.counts)
        below, lower = 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count and below + count >= rank:
                return lower if bound is None else lower + (bound - lower) * (rank - below) / count
            below, lower = below + count, lower if bound is None else bound
        return None


class LiveVersion(Schema):
    """Counted since serving started; `running` and `waiting` are of now."""

    model_name: str
    version: str
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    running: int
    waiting: int
    first_token: Latency
    inter_token: Latency


class Live(Schema):
    time: float
    versions: tuple[LiveVersion, ...]


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


class Token(Schema):
    """A token of an answer, how probable it was, and what else might have come, likeliest first."""

    text: str
    probability: float
    others: tuple[tuple[str, float], ...] = ()


class Turn(Message):
    """A message of a conversation, with the tokens of an answer where they were asked for."""

    tokens: tuple[Token, ...] = ()
    ended: bool = Field(True, description="false while an answer streams in, and of one that was stopped")


class ChatDelta(Schema):
    """One piece of a streamed answer; the last ones carry why it ended and what it used."""

    text: str = ""
    tokens: tuple[Token, ...] = ()
    version: str | None = None
    finish_reason: str | None = None
    usage: TokenUsage | None = None


class Sampling(Schema):
    """What the playground sends along with the messages."""

    max_tokens: int = 200
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] | None = None

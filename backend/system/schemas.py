from pydantic import BaseModel


class Device(BaseModel):
    kind: str
    name: str
    cores: int


class Space(BaseModel):
    """In bytes."""

    total: int
    used: int


class WorkerSchema(BaseModel):
    """A worker heard of lately; `alive` when its last heartbeat is not older than a lease."""

    id: str
    host: str
    device: str
    started: float
    seen: float
    alive: bool
    job: str | None


class Queue(BaseModel):
    """Jobs by state; `messages` lie in the broker, null when it does not answer."""

    waiting: int
    queued: int
    running: int
    messages: int | None


class SystemSchema(BaseModel):
    version: str
    device: Device
    cpu_percent: float
    memory: Space
    disk: Space
    workers: list[WorkerSchema]
    queue: Queue

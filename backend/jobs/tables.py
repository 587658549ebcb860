from typing import Any, Literal

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base

JobState = Literal["waiting", "queued", "running", "succeeded", "failed", "cancelled"]
FINISHED: tuple[JobState, ...] = ("succeeded", "failed", "cancelled")


class JobRow(Base):
    """One job. `attempt` grows with every claim; whoever holds the newest one may write the row, nobody else."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    pipeline_id: Mapped[str | None] = mapped_column(ForeignKey("pipelines.id"), index=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    """the job of which this one does a part"""
    position: Mapped[int] = mapped_column(default=0)
    spec: Mapped[dict[str, Any]]
    sources: Mapped[dict[str, str]]
    """role -> id of the job read from"""
    run_folder: Mapped[str]
    created: Mapped[float]

    state: Mapped[JobState] = mapped_column(String, default="waiting", index=True)
    attempt: Mapped[int] = mapped_column(default=0)
    step: Mapped[int] = mapped_column(default=0)
    total_steps: Mapped[int] = mapped_column(default=0)
    message: Mapped[str] = mapped_column(default="")
    error: Mapped[str | None]
    started: Mapped[float | None]
    finished: Mapped[float | None]
    seconds_left: Mapped[float | None]

    reuse: Mapped[bool] = mapped_column(default=False)
    reused_from: Mapped[str | None]
    reuse_key: Mapped[str | None] = mapped_column(index=True)
    content_key: Mapped[str | None]
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    """the frozen labels bound to it"""

    cancel_requested: Mapped[bool] = mapped_column(default=False)
    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    sent: Mapped[float | None]
    """when a message for it was last given to the broker"""
    resumes: Mapped[int] = mapped_column(default=0)
    """automatic resumes in a row without a newer snapshot"""
    resumed_step: Mapped[int] = mapped_column(default=-1)
    metric_seq: Mapped[int] = mapped_column(default=0)


class MetricRow(Base):
    """One number of one step. `seq` only grows within a job, so a client asks for what came since."""

    __tablename__ = "metrics"
    __table_args__ = (Index("ix_metrics_job_id_seq", "job_id", "seq"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int]
    time: Mapped[float]
    value: Mapped[float | None]
    """null where the number was not finite"""


class WorkerRow(Base):
    """A worker process and when it was last heard of."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    device: Mapped[str]
    started: Mapped[float]
    seen: Mapped[float]

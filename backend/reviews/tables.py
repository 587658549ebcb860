from typing import Any, Literal

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base

Decision = Literal["accept", "edit", "reject", "skip"]


class ReviewRow(Base):
    """What one person decided of one problem, named by its split and line in the job's artifact.

    Of a problem at most one row that is neither a skip nor undone exists: only whoever holds its lease decides.
    """

    __tablename__ = "reviews"
    __table_args__ = (Index("ix_reviews_job_id_split", "job_id", "split"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    split: Mapped[str]
    number: Mapped[int]
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    decision: Mapped[Decision] = mapped_column(String)
    family: Mapped[str]
    reason: Mapped[str]
    """why it was rejected"""
    problem: Mapped[dict[str, Any] | None]
    """what an edit made of it"""
    seconds: Mapped[float]
    created: Mapped[float]
    undone: Mapped[float | None]


class ReviewLeaseRow(Base):
    """Who is looking at a problem just now: nobody else is shown it, or may decide it."""

    __tablename__ = "review_leases"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    until: Mapped[float]

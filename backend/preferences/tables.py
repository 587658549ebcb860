from typing import Any, Literal

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base

Position = Literal["ab", "ba"]
Choice = Literal["left", "right", "tie", "both_bad", "skip"]
Event = Literal["left", "right", "tie", "both_bad", "skip", "undo"]


class PairRow(Base):
    """Two completions of one prompt; the id is a hash of the three, so the same pair is never queued twice."""

    __tablename__ = "pairs"
    # What is open, the most wanted first; the queue reads its head from this index alone.
    __table_args__ = (Index("ix_pairs_queue", "open", "rank", "created", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    prompt: Mapped[list[dict[str, Any]]]
    a: Mapped[str]
    b: Mapped[str]
    origin: Mapped[str]
    created: Mapped[float] = mapped_column(index=True)
    rank: Mapped[float] = mapped_column(default=0.0)
    """lower ones are asked first"""
    wanted: Mapped[int] = mapped_column(default=1)
    """people who are to judge it"""
    judged: Mapped[int] = mapped_column(default=0)
    """people who have, without those who skipped it"""
    open: Mapped[bool] = mapped_column(default=True)
    """judged < wanted, and not withdrawn"""
    withdrawn: Mapped[bool] = mapped_column(default=False)


class LabelRow(Base):
    """What one person said of a pair. Rows are only ever added: of one person's, repeats aside, the latest counts."""

    __tablename__ = "labels"
    __table_args__ = (Index("ix_labels_user_id_pair_id", "user_id", "pair_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    position: Mapped[Position] = mapped_column(String)
    choice: Mapped[Event] = mapped_column(String)
    seconds: Mapped[float]
    note: Mapped[str]
    reasons: Mapped[list[str]]
    repeat: Mapped[bool] = mapped_column(default=False)
    """a second look that the person did not know of; it measures the person and trains nothing"""
    created: Mapped[float]


class PairLeaseRow(Base):
    """Who is looking at a pair just now, and which completion they see on the left."""

    __tablename__ = "pair_leases"

    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    position: Mapped[Position] = mapped_column(String)
    repeat: Mapped[bool] = mapped_column(default=False)
    until: Mapped[float]

from typing import Any, Literal

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base

Position = Literal["ab", "ba"]
Choice = Literal["left", "right", "tie", "both_bad", "skip"]


class PairRow(Base):
    """Two completions of one prompt; the id is a hash of the three, so the same pair is never queued twice."""

    __tablename__ = "pairs"

    id: Mapped[str] = mapped_column(primary_key=True)
    prompt: Mapped[list[dict[str, Any]]]
    a: Mapped[str]
    b: Mapped[str]
    origin: Mapped[str]
    created: Mapped[float] = mapped_column(index=True)


class LabelRow(Base):
    """One person's judgement. Rows are only ever added: a later one of the same person replaces an earlier one."""

    __tablename__ = "labels"
    __table_args__ = (Index("ix_labels_user_id_pair_id", "user_id", "pair_id"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), index=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    position: Mapped[Position] = mapped_column(String)
    choice: Mapped[Choice] = mapped_column(String)
    seconds: Mapped[float]
    note: Mapped[str]
    created: Mapped[float]


class PairLeaseRow(Base):
    """Who is looking at a pair just now, and which completion they see on the left."""

    __tablename__ = "pair_leases"

    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), index=True)
    position: Mapped[Position] = mapped_column(String)
    until: Mapped[float]

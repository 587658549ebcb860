from typing import Any, Literal

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base

Action = Literal["deploy", "split", "rollback", "restore", "remove"]


class DeploymentChangeRow(Base):
    """What serving was told to answer with under a model name. Rows are only added: the newest of a name counts."""

    __tablename__ = "deployment_changes"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model_name: Mapped[str] = mapped_column(index=True)
    time: Mapped[float]
    action: Mapped[Action] = mapped_column(String)
    user: Mapped[str | None]
    """their name; none: a deploy job"""
    versions: Mapped[list[dict[str, Any]]]
    """{"job": id of the export job, "export": folder, "weight"}; empty once it is removed"""
    previous: Mapped[list[dict[str, Any]]]
    """what a rollback returns to, kept loaded until then"""


class UsageRow(Base):
    """One answered request, as serving wrote it down."""

    __tablename__ = "usage"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    time: Mapped[float]
    key_id: Mapped[str] = mapped_column(index=True)
    model: Mapped[str]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]


class UsageFileRow(Base):
    """How far a usage file has been read, in bytes."""

    __tablename__ = "usage_files"

    path: Mapped[str] = mapped_column(primary_key=True)
    offset: Mapped[int]

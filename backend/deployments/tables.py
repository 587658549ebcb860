from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base


class DeploymentRow(Base):
    """An export that serving is to answer with, under a model name."""

    __tablename__ = "deployments"

    model_name: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    export: Mapped[str]
    created: Mapped[float]


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

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base


class DatasetRow(Base):
    """A frozen dataset: its id holds the hash of its content, so it never changes."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    folder: Mapped[str]
    rows: Mapped[int]
    created: Mapped[float]
    job_id: Mapped[str | None]
    """the job it was made of. No foreign key, since jobs have one to datasets"""
    about: Mapped[dict[str, Any]]
    """what went into it, for people"""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base


class CheckpointRow(Base):
    """A complete checkpoint that a job left."""

    __tablename__ = "checkpoints"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    folder: Mapped[str]
    sha256: Mapped[str]
    created: Mapped[float]

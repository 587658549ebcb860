from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base


class PipelineRow(Base):
    """A recipe that was started; its state follows from its jobs."""

    __tablename__ = "pipelines"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created: Mapped[float] = mapped_column(index=True)

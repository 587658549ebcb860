from typing import Literal
from uuid import uuid4

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.db import Base

UserRole = Literal["admin", "member", "labeller"]


class UserRow(Base):
    __tablename__ = "users"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: uuid4().hex[:12])
    name: Mapped[str] = mapped_column(unique=True)
    role: Mapped[UserRole] = mapped_column(String)
    created: Mapped[float]


class KeyRow(Base):
    """An API key; only its hash is kept.

    Attributes:
        revoked: since when it opens nothing; the row stays, since usage names it.
        requests_per_minute, tokens_per_minute: what serving lets it use; None: no limit.
        keep_chats: its owner consents to serving keeping what is asked and answered.
    """

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: uuid4().hex[:12])
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    sha256: Mapped[str] = mapped_column(unique=True)
    created: Mapped[float]
    revoked: Mapped[float | None] = mapped_column(default=None)
    requests_per_minute: Mapped[int | None] = mapped_column(default=None)
    tokens_per_minute: Mapped[int | None] = mapped_column(default=None)
    keep_chats: Mapped[bool] = mapped_column(default=False)

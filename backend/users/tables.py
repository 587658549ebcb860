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
    """An API key; only its hash is kept."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True, default=lambda: uuid4().hex[:12])
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    sha256: Mapped[str] = mapped_column(unique=True)
    created: Mapped[float]

"""Bearer keys: random, kept as sha256, each belonging to a user with a role."""

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from backend.db import Database
from backend.errors import Forbidden, Unauthorized
from backend.platform import Platform
from backend.settings import Settings
from backend.users.tables import KeyRow, UserRole, UserRow

ADMIN_KEY, SERVING_KEY = "admin_key", "serving_key"
# Not the whole path: whoever has no key need not learn where things lie.
WHERE = f"the admin's lies in the file {ADMIN_KEY} of the platform's home"


def new_key() -> str:
    return f"octavo_{secrets.token_urlsafe(32)}"


def key_sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def get_platform(request: Request) -> Platform:
    platform = request.app.state.platform
    assert isinstance(platform, Platform)
    return platform


PlatformDep = Annotated[Platform, Depends(get_platform)]
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


def current_user(platform: PlatformDep, credentials: Credentials) -> UserRow:
    """The owner of the request's key.

    Raises:
        Unauthorized: there is no key, nobody owns it, or it was revoked.
    """
    if credentials is None:
        raise Unauthorized(f"no key; send the header 'Authorization: Bearer <key>' ({WHERE})")
    query = select(UserRow).join(KeyRow)
    query = query.where(KeyRow.sha256 == key_sha256(credentials.credentials), KeyRow.revoked.is_(None))
    with platform.database.read() as session:
        user = session.scalar(query)
    if user is None:
        raise Unauthorized(f"wrong key; {WHERE}, others are made by an admin")
    return user


CurrentUser = Annotated[UserRow, Depends(current_user)]


def require_role(*roles: UserRole) -> Callable[[UserRow], UserRow]:
    """A dependency that lets only these roles pass."""

    def check(user: CurrentUser) -> UserRow:
        if user.role not in roles:
            raise Forbidden(f"this needs the role {' or '.join(roles)}; '{user.name}' is a {user.role}, ask an admin")
        return user

    return check


def write_secret(path: Path, key: str) -> None:
    """Write a key that only the owner of the process may read.

    Raises:
        FileExistsError: there is a file already; it is never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")


def ensure_admin(database: Database, settings: Settings) -> str | None:
    """Create the admin at the very first start; returns the key then, and nothing ever after."""
    with database.read() as session:
        if session.scalar(select(UserRow.id).limit(1)) is not None:
            return None
    key, now = new_key(), time.time()
    # Written before the row and named after it: whenever this stops, a key that is valid lies in a file.
    path = settings.home / ADMIN_KEY
    draft = path.with_name(f".{ADMIN_KEY}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    write_secret(draft, key)
    admin = UserRow(name="admin", role="admin", created=now)
    try:
        with database.write() as session:
            session.add(admin)
            session.flush()
            session.add(KeyRow(user_id=admin.id, sha256=key_sha256(key), created=now))
    except IntegrityError:  # another replica started at the same moment and was first
        draft.unlink()
        return None
    os.replace(draft, path)
    return key


def serving_key(settings: Settings) -> str:
    """The key by which backend and worker speak to serving; made once, kept in the home."""
    path = settings.home / SERVING_KEY
    if not path.is_file():
        try:
            write_secret(path, new_key())
        except FileExistsError:  # another process made it just now; a file this small is whole
            return path.read_text().strip()
    return path.read_text().strip()

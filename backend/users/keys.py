"""The keys of people: further ones, what they may use, and their end. Serving learns of every change."""

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.auth import key_sha256, new_key
from backend.deployments.publish import publish
from backend.errors import Conflict, Forbidden, NotFound
from backend.platform import Platform
from backend.users.schemas import KeyChanges, KeySchema, NewKey
from backend.users.tables import KeyRow, UserRow

LIMITS = ("requests_per_minute", "tokens_per_minute")


def list_keys(platform: Platform, user: UserRow) -> list[KeySchema]:
    """All keys for an admin, their own for others; revoked ones too, since usage names them."""
    query = select(KeyRow, UserRow).join(UserRow).order_by(KeyRow.created)
    if user.role != "admin":
        query = query.where(KeyRow.user_id == user.id)
    with platform.database.read() as session:
        return [_schema(key, owner) for key, owner in session.execute(query)]


def create_key(platform: Platform, user_id: str) -> NewKey:
    """A further key of a user.

    Raises:
        NotFound: there is no such user.
    """
    key = new_key()
    with platform.database.write() as session:
        owner = session.get(UserRow, user_id)
        if owner is None:
            raise NotFound(f"there is no user '{user_id}'; GET /users lists them")
        row = KeyRow(user_id=owner.id, sha256=key_sha256(key), created=time.time())
        session.add(row)
        session.flush()
    publish(platform)
    return NewKey(**_schema(row, owner).model_dump(), key=key)


def change_key(platform: Platform, user: UserRow, key_id: str, changes: KeyChanges) -> KeySchema:
    """Limits are an admin's to set; whether chats are kept is for the key's owner to say.

    Raises:
        NotFound, Forbidden.
    """
    wanted = changes.model_dump(exclude_unset=True)
    with platform.database.write() as session:
        row, owner = _find(session, user, key_id)
        if user.role != "admin" and wanted.keys() & set(LIMITS):
            raise Forbidden("the limits of a key are set by an admin")
        if "keep_chats" in wanted and owner.id != user.id:
            raise Forbidden(f"only '{owner.name}' can consent to the chats of this key being kept")
        for name, value in wanted.items():
            setattr(row, name, value)
    publish(platform)
    return _schema(row, owner)


def revoke_key(platform: Platform, user: UserRow, key_id: str) -> None:
    """From now on it opens nothing; again changes nothing.

    Raises:
        NotFound, Forbidden.
        Conflict: no admin would be left with a key.
    """
    with platform.database.write() as session:
        row, _ = _find(session, user, key_id)
        # Locked, so that the last two cannot be revoked at once.
        admins = select(KeyRow).join(UserRow).where(UserRow.role == "admin", KeyRow.revoked.is_(None))
        if [key.id for key in session.scalars(admins.with_for_update(of=KeyRow))] == [row.id]:
            raise Conflict("this is the last key of an admin; make another one first")
        if row.revoked is None:
            row.revoked = time.time()
    publish(platform)


def _find(session: Session, user: UserRow, key_id: str) -> tuple[KeyRow, UserRow]:
    row = session.get(KeyRow, key_id)
    owner = session.get(UserRow, row.user_id) if row is not None else None
    if row is None or owner is None:
        raise NotFound(f"there is no key '{key_id}'; GET /keys lists them")
    if user.role != "admin" and owner.id != user.id:
        raise Forbidden("this key is somebody else's; ask an admin")
    return row, owner


def _schema(key: KeyRow, owner: UserRow) -> KeySchema:
    return KeySchema(
        id=key.id, user=owner.name, created=key.created, revoked=key.revoked, keep_chats=key.keep_chats,
        requests_per_minute=key.requests_per_minute, tokens_per_minute=key.tokens_per_minute,
    )  # fmt: skip

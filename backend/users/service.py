import time

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from backend.auth import key_sha256, new_key
from backend.deployments.publish import publish
from backend.errors import Conflict
from backend.platform import Platform
from backend.users.schemas import NewUser, UserSchema, UserWithKey
from backend.users.tables import KeyRow, UserRow


def schema(user: UserRow) -> UserSchema:
    return UserSchema(id=user.id, name=user.name, role=user.role, created=user.created)


def list_users(platform: Platform) -> list[UserSchema]:
    with platform.database.read() as session:
        return [schema(user) for user in session.scalars(select(UserRow).order_by(UserRow.created))]


def create(platform: Platform, new: NewUser) -> UserWithKey:
    """Raises: Conflict: the name is taken."""
    key, now = new_key(), time.time()
    user = UserRow(name=new.name, role=new.role, created=now)
    try:
        with platform.database.write() as session:
            session.add(user)
            session.flush()
            session.add(KeyRow(user_id=user.id, sha256=key_sha256(key), created=now))
    except IntegrityError as error:
        raise Conflict(f"there is a user '{new.name}' already; choose another name") from error
    publish(platform)
    return UserWithKey(**schema(user).model_dump(), key=key)

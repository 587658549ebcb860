from fastapi import APIRouter, Depends

from backend.auth import CurrentUser, PlatformDep, require_role
from backend.users import keys, service
from backend.users.schemas import KeyChanges, KeySchema, NewKey, NewUser, UserSchema, UserWithKey

router = APIRouter(tags=["users"])
ADMIN = [Depends(require_role("admin"))]
MEMBER = [Depends(require_role("admin", "member"))]


@router.get("/me")
def me(user: CurrentUser) -> UserSchema:
    return service.schema(user)


@router.get("/users", dependencies=ADMIN)
def list_users(platform: PlatformDep) -> list[UserSchema]:
    return service.list_users(platform)


@router.post("/users", status_code=201, dependencies=ADMIN)
def create_user(platform: PlatformDep, new: NewUser) -> UserWithKey:
    """The key in the answer is shown this once."""
    return service.create(platform, new)


@router.get("/keys", dependencies=MEMBER)
def list_keys(platform: PlatformDep, user: CurrentUser) -> list[KeySchema]:
    return keys.list_keys(platform, user)


@router.post("/users/{user_id}/keys", status_code=201, dependencies=ADMIN)
def create_key(platform: PlatformDep, user_id: str) -> NewKey:
    """The key in the answer is shown this once."""
    return keys.create_key(platform, user_id)


@router.patch("/keys/{key_id}", dependencies=MEMBER)
def change_key(platform: PlatformDep, user: CurrentUser, key_id: str, changes: KeyChanges) -> KeySchema:
    return keys.change_key(platform, user, key_id, changes)


@router.delete("/keys/{key_id}", status_code=204, dependencies=MEMBER)
def revoke_key(platform: PlatformDep, user: CurrentUser, key_id: str) -> None:
    """Nothing is opened by it from now on: at once here, within seconds in serving."""
    keys.revoke_key(platform, user, key_id)

from fastapi import APIRouter, Depends

from backend.auth import CurrentUser, PlatformDep, require_role
from backend.users import service
from backend.users.schemas import NewUser, UserSchema, UserWithKey

router = APIRouter(tags=["users"])
ADMIN = [Depends(require_role("admin"))]


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

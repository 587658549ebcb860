from pydantic import BaseModel, ConfigDict, Field

from backend.users.tables import UserRole


class UserSchema(BaseModel):
    id: str
    name: str
    role: UserRole
    created: float


class NewUser(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[^\s].{0,79}$")
    role: UserRole = "member"


class UserWithKey(UserSchema):
    """The answer to creating a user: the only time the key is shown."""

    key: str

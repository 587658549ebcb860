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


class KeySchema(BaseModel):
    """A key, without its secret. Limits count a minute's requests and tokens; null: none."""

    id: str
    user: str
    created: float
    revoked: float | None
    requests_per_minute: int | None
    tokens_per_minute: int | None
    keep_chats: bool


class NewKey(KeySchema):
    """The answer to creating a key: the only time it is shown."""

    key: str


class KeyChanges(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: int | None = Field(None, gt=0)
    tokens_per_minute: int | None = Field(None, gt=0)
    keep_chats: bool = False


class UserWithKey(UserSchema):
    """The answer to creating a user: the only time the key is shown."""

    key: str

from pydantic import BaseModel, ConfigDict, Field

from backend.preferences.tables import Choice, Position
from trainer.spec import Message


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPair(_Body):
    prompt: tuple[Message, ...] = Field(min_length=1)
    a: str
    b: str
    origin: str = "people"


class PairSchema(BaseModel):
    id: str
    prompt: list[Message]
    a: str
    b: str
    origin: str
    created: float


class FromJob(_Body):
    job: str
    limit: int = Field(100, ge=1, le=10_000)


class Imported(BaseModel):
    """Pairs that were new, and those that were there already."""

    imported: int
    known: int


class NextPair(BaseModel):
    id: str
    prompt: list[Message]
    left: str
    right: str
    position: Position
    remaining: int


class NewLabel(_Body):
    pair: str
    position: Position
    choice: Choice
    seconds: float = Field(0, ge=0)
    note: str = Field("", max_length=10_000)


class LabelSchema(BaseModel):
    id: int
    pair: str
    position: Position
    choice: Choice
    seconds: float
    note: str
    created: float


class LabelSummary(BaseModel):
    """`remaining` and `mine` are this user's; `left_share` is that of the left answer among all left/right labels."""

    pairs: int
    labelled: int
    remaining: int
    mine: int
    left_share: float | None

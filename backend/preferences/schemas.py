from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backend.preferences.tables import Choice, Position
from trainer.spec import Message

Reason = Literal["correct", "clear", "complete", "concise", "format", "safe", "helpful", "honest"]
Order = Literal["as_made", "uncertain", "disagreement"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewPair(_Body):
    prompt: tuple[Message, ...] = Field(min_length=1)
    a: str
    b: str
    origin: str = "people"

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        if fault := fault_of(self.a, self.b):
            raise ValueError(f"{fault}: there is nothing to judge")
        return self


def fault_of(a: str, b: str) -> str | None:
    """Why two answers are no pair; nothing where they are."""
    if not a.strip() or not b.strip():
        return "an answer is empty"
    return "the two answers are equal" if " ".join(a.split()) == " ".join(b.split()) else None


class PairSchema(BaseModel):
    id: str
    prompt: list[Message]
    a: str
    b: str
    origin: str
    created: float


class FromJob(_Body):
    """`order`: as they were made; those first that the reward model is least sure of; or those first where it prefers
    what was verified to be the worse one."""

    job: str
    limit: int = Field(100, ge=1, le=10_000)
    order: Order = "as_made"


class Imported(BaseModel):
    """Pairs that were new, that were there already, and that are none, by reason."""

    imported: int
    known: int
    refused: Mapping[str, int] = {}


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
    reasons: tuple[Reason, ...] = ()


class LabelSchema(BaseModel):
    id: int
    pair: str
    position: Position
    choice: Choice
    seconds: float
    note: str
    reasons: list[str]
    created: float


class OwnLabel(LabelSchema):
    """A label with what was seen, so that it can be given anew."""

    prompt: list[Message]
    left: str
    right: str


class LabelSummary(BaseModel):
    """`remaining` and `mine` are this user's; `left_share` is that of the left answer among all left/right labels."""

    pairs: int
    labelled: int
    remaining: int
    mine: int
    left_share: float | None


class RaterSchema(BaseModel):
    """One person as a judge. Shares are of what was counted beside them, null where that is nothing.

    repeats: pairs shown a second time, unknown to the person; consistent: share of them judged alike; same_side: share
    of the ones shown in the other order where the same side was chosen, not the same answer. kappa: agreement with
    each other person over the pairs that both judged.
    """

    user: str
    name: str
    labels: int
    skipped: int
    left: int
    right: int
    left_p: float = Field(description="chance that a judge without a bias is so far from one half")
    median_seconds: float | None
    repeats: int
    consistent: float | None
    swapped: int
    same_side: float | None
    kappa: dict[str, float | None]
    alarms: list[str]


class RatersSchema(BaseModel):
    """`alpha` is Krippendorff's, over all pairs that several people judged."""

    raters: list[RaterSchema]
    shared_pairs: int
    contradicted: int = Field(description="of them, how many have a label for each answer")
    alpha: float | None

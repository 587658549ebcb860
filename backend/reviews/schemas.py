from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backend.reviews.tables import Decision
from trainer.spec import Problem

Split = Literal["train", "rl", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "rl", "heldout")


class QueueSchema(BaseModel):
    """A job whose problems can be reviewed."""

    job: str
    name: str
    finished: float | None


class ReviewItem(BaseModel):
    """A problem to decide on, and how many of its split nobody has decided yet."""

    job: str
    split: Split
    number: int
    problem: dict[str, Any]
    remaining: int


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    job: str
    split: Split = "train"


class NewReview(Place):
    number: int = Field(ge=0)
    decision: Decision
    reason: str = Field("", max_length=1_000)
    problem: Problem | None = None
    seconds: float = Field(0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.decision == "reject") != bool(self.reason.strip()):
            raise ValueError("a 'reject' needs a reason, and nothing else has one")
        if (self.decision == "edit") != (self.problem is not None):
            raise ValueError("an 'edit' needs the edited problem, and nothing else has one")
        return self


class ReviewSchema(BaseModel):
    id: int
    job: str
    split: str
    number: int
    decision: Decision
    reason: str
    created: float


class Tally(BaseModel):
    """How often each was decided; `seconds` is the time it took in all."""

    accept: int = 0
    edit: int = 0
    reject: int = 0
    seconds: float = 0


class SplitProgress(BaseModel):
    total: int
    decided: int


class ReviewSummary(BaseModel):
    """Of a job: how far each split is, and who decided what of which family. `mine` is this user's."""

    splits: dict[Split, SplitProgress]
    mine: Tally
    reviewers: dict[str, Tally]
    families: dict[str, Tally]
    reasons: dict[str, int]

"""What the backend answers about data, as types. Fields that the dashboard does not show are ignored."""

from typing import Any, Literal

from pydantic import Field

from dashboard.schemas import Schema

Split = Literal["train", "rl", "heldout"]
Decision = Literal["accept", "edit", "reject", "skip"]


class Rows(Schema):
    """Rows that were asked for with their numbers; `total` counts every row, `next` is where to look on."""

    rows: tuple[dict[str, Any], ...]
    numbers: tuple[int, ...]
    total: int
    next: int | None = None


class Dataset(Schema):
    """A frozen dataset, and the job it was made of."""

    id: str
    kind: str
    folder: str
    rows: int
    created: float
    job: str | None = None
    about: dict[str, Any] = Field({}, description="what went into it")


class Node(Schema):
    """A job or a frozen dataset."""

    id: str
    type: Literal["job", "dataset"]
    name: str
    kind: str
    state: str


class Edge(Schema):
    source: str
    target: str
    role: str


class Lineage(Schema):
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class PackedToken(Schema):
    """A token of a packed row. `counts`: it is a target of the loss; `structure`: its part in a parse."""

    id: int
    text: str
    counts: bool
    segment: int
    domain: str
    structure: str | None = None


class PackedDocument(Schema):
    """What a segment of a packed row is, and where it comes from."""

    id: str
    kind: str
    segment: int
    source: str | None = None
    license: str | None = None
    language: str | None = None
    rules_passed: tuple[str, ...] = ()
    meta: dict[str, Any] = Field({}, description="path, address, family …")


class Draw(Schema):
    """A training step that used a row, in a phase of the curriculum."""

    phase: str
    step: int


class PackedRow(Schema):
    """Without the padding at its end."""

    tokens: tuple[PackedToken, ...]
    documents: tuple[PackedDocument, ...]
    drawn: tuple[Draw, ...] = ()


class StepRows(Schema):
    """The rows that a training step drew, by source."""

    phase: str
    rows: dict[str, tuple[int, ...]]


class ReviewQueue(Schema):
    job: str
    name: str
    finished: float | None = None


class ReviewItem(Schema):
    """A problem to decide on; `remaining` of its split are undecided."""

    job: str
    split: Split
    number: int
    problem: dict[str, Any]
    remaining: int


class Tally(Schema):
    accept: int = 0
    edit: int = 0
    reject: int = 0
    seconds: float = 0

    @property
    def decided(self) -> int:
        return self.accept + self.edit + self.reject


class SplitProgress(Schema):
    total: int
    decided: int


class ReviewSummary(Schema):
    splits: dict[Split, SplitProgress]
    mine: Tally
    reviewers: dict[str, Tally]
    families: dict[str, Tally]
    reasons: dict[str, int]

from typing import Literal

from pydantic import BaseModel


class Node(BaseModel):
    """A job, or a frozen dataset. `kind` is the stage or the kind of dataset; a dataset is always `succeeded`."""

    id: str
    type: Literal["job", "dataset"]
    name: str
    kind: str
    state: str


class Edge(BaseModel):
    """`target` reads `source` in a role."""

    source: str
    target: str
    role: str


class Lineage(BaseModel):
    nodes: list[Node]
    edges: list[Edge]

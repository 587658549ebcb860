"""Record types: what datasets are made of. Imports no torch; `trainer.spec` offers them too."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Domain = Literal["code", "science", "multilingual", "general"]
DOMAINS: tuple[Domain, ...] = ("code", "science", "multilingual", "general")
Role = Literal["system", "user", "assistant"]


class Spec(BaseModel):
    """Base of everything that is parsed from outside: unknown fields are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Record(Spec):
    """One document of a corpus."""

    id: str
    text: str
    source: str
    domain: Domain
    language: str
    meta: dict[str, Any] = {}


class Message(Spec):
    role: Role
    content: str


class Distractor(Spec):
    """A wrong answer with the typed mistake that led to it; verified to be wrong."""

    mistake: str
    solution: str
    answer: str


class Problem(Spec):
    """A generated problem whose steps and answer were verified symbolically."""

    id: str = Field(description="sha256 of the prompt, first 16 hex digits")
    family: str
    level: int = Field(ge=1, le=5)
    prompt: str
    solution: str = Field(description="worked steps, then the answer; what the assistant should say")
    direct: str = Field(description="the answer alone, in the same closing form")
    answer: str = Field(description="the answer as an expression that SymPy parses")
    distractors: tuple[Distractor, ...] = ()
    condition: str = Field(
        "",
        exclude_if=lambda condition: not condition,
        description="what the answer has to satisfy, for checking it again; empty where the working says it all",
    )


class Pair(Spec):
    """Two completions of one prompt, the first preferred, or neither where `preference` is a half."""

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    origin: str = Field(description="distractor | policy_error | label")
    preference: float = Field(1.0, ge=0.5, le=1, description="probability that the first is better; 0.5 is a tie")
    margin: float = Field(0.0, ge=0, description="by how much it is better, where somebody said so, in units of reward")
    meta: dict[str, Any] = {}


class PairScore(Spec):
    """What a reward model thinks of a pair: the score of the first answer minus that of the second."""

    id: str
    difference: float

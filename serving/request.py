"""What goes into an engine and what comes out of it. Holds no tensors."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class SamplingParams:
    """How to answer. `max_tokens` is what fits: the app has cut it to the context."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    logprobs: int | None = None  # how many of the best tokens to report beside the chosen one


@dataclass(frozen=True)
class Request:
    """Attributes:
    priority: lower ones go first.
    deadline: by `time.monotonic`, which all processes of a machine share; an answer that is not whole then fails.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    priority: int = 0
    deadline: float | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """The chosen token with its log-probability (natural), and the best tokens of that step, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Delta:
    """What one step added to an answer. `text` lags behind the tokens where a stop string may have begun."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Failure:
    """The engine could not go on with this request; the last event of it."""

    message: str
    late: bool = False  # its deadline had come


Event = Delta | Failure

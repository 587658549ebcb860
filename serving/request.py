"""What goes into an engine and what comes out of it. Holds no tensors."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Grammar:
    """What an answer must be: text that a JSON Schema or a regular expression describes, from its first character to
    its last."""

    kind: Literal["json_schema", "regex"]
    source: str


@dataclass(frozen=True)
class SamplingParams:
    """How to answer. `max_tokens` is what fits: the app has cut it to the context; 0 reads the prompt only."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: no limit
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # token, what is added to its score
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    logprobs: int | None = None  # how many of the best tokens to report beside the chosen one
    prompt_logprobs: int | None = None  # the same of the prompt
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Request:
    """Attributes:
    priority: lower ones go first.
    deadline: by `time.monotonic`, which all processes of a machine share; an answer that is not whole then fails.
    embed: whether the answer is the prompt's embedding instead of text.
    """

    id: str
    prompt: tuple[int, ...]
    params: SamplingParams
    priority: int = 0
    deadline: float | None = None
    embed: bool = False

    @property
    def reads_prompt(self) -> bool:
        """Whether the hidden states of the whole prompt are needed, so that none of it may come from the cache."""
        return self.embed or self.params.prompt_logprobs is not None


@dataclass(frozen=True)
class TokenLogprob:
    """The chosen token with its log-probability (natural), and the best tokens of that step, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Delta:
    """What one step added to an answer. `text` lags behind the tokens where a stop string may have begun.

    Attributes:
        prompt_logprobs: of all tokens of the prompt but the first; with the first delta, where asked for.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Embedding:
    """The answer to a request that asked for it; its only event."""

    vector: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """The engine could not go on with this request; the last event of it."""

    message: str
    late: bool = False  # its deadline had come


Event = Delta | Embedding | Failure


def is_last(event: Event) -> bool:
    """Whether nothing follows it."""
    return not isinstance(event, Delta) or event.finish_reason is not None

"""What the process that speaks HTTP and the process of an engine tell each other."""

from dataclasses import dataclass

from serving.engine_protocol import Stats
from serving.gate import Gate
from serving.request import Event, Request


@dataclass(frozen=True)
class Submit:
    request: Request


@dataclass(frozen=True)
class Cancel:
    request_id: str


@dataclass(frozen=True)
class Close:
    """Take no more requests."""


@dataclass(frozen=True)
class Abort:
    """Stop at once."""


@dataclass(frozen=True)
class Ready:
    """The export is loaded and answers."""

    context: int
    vocab_size: int
    created: int
    gate: Gate


@dataclass(frozen=True)
class Refused:
    """The export does not answer; why."""

    reason: str


@dataclass(frozen=True)
class Events:
    """All that one step emitted, by request, and how the engine stands after it."""

    events: list[tuple[str, Event]]
    stats: Stats


@dataclass(frozen=True)
class Ended:
    """The engine has answered everything, or failed it; nothing follows."""


ToEngine = Submit | Cancel | Close | Abort
FromEngine = Ready | Refused | Events | Ended

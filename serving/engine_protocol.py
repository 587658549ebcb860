"""What an engine is to those who ask it. Loads no torch: the process that speaks HTTP needs none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from serving.gate import Gate
from serving.histogram import Counts
from serving.request import Event, Request
from trainer.data.tokenizer import Tokenizer

Emit = Callable[[Event], None]


class EngineClosed(RuntimeError):
    """The engine takes no more requests: its deployment was replaced or removed. Ask for the model again."""


@dataclass(frozen=True)
class Stats:
    """A snapshot for metrics; the counts are requests, then blocks."""

    running: int
    waiting: int
    used_blocks: int
    num_blocks: int
    preemptions: int
    histograms: dict[str, Counts] = field(default_factory=dict)  # of `StepHistograms`


class Engine(Protocol):
    """What answers requests. `emit` is called from the engine's thread: deltas, the last one with a finish reason, or
    a failure. After a cancel nothing is emitted any more."""

    def submit(self, request: Request, emit: Emit) -> None:
        """Raises EngineClosed after `close`."""

    def cancel(self, request_id: str) -> None: ...

    def close(self) -> None:
        """Take no more requests; those taken are still answered."""

    def join(self) -> None:
        """Wait, after `close`, until all are answered."""

    def abort(self) -> None:
        """Fail what is not answered yet and stop."""

    def is_alive(self) -> bool: ...

    def stats(self) -> Stats: ...


@dataclass(frozen=True)
class Served:
    """A model that answers. `context` counts tokens of prompt and answer together."""

    engine: Engine
    tokenizer: Tokenizer
    context: int
    vocab_size: int
    created: int  # seconds since the epoch
    gate: Gate
    version: str = ""  # the id under which it is deployed

"""The engine in a process of its own answers as one in this process does, and its death reaches those who wait."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engine_process import EngineProcess, start_engine
from serving.engine_protocol import EngineClosed, Served
from serving.loader import load_export
from serving.request import Delta, Event, Failure
from serving.settings import Settings
from tests.serving.world import Mailbox, exported, request, text_of, tokens_of

SETTINGS = Settings(serving_kv_megabytes=8, serving_threads=1)
LONG = {"max_tokens": 50, "ignore_end": True}


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("export"))


@pytest.fixture
def served(export: Path) -> Iterator[Served]:
    served = start_engine(export, SETTINGS)
    yield served
    served.engine.abort()


def process_of(served: Served) -> EngineProcess:
    assert isinstance(served.engine, EngineProcess)
    return served.engine


class Watched(Mailbox):
    """Says when the first token has come."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def put(self, event: Event) -> None:
        super().put(event)
        self.begun.set()


def test_answers_are_those_of_an_engine_in_this_process(export: Path, served: Served) -> None:
    here = load_export(export, SETTINGS)
    assert (served.context, served.vocab_size) == (here.context, here.vocab_size)
    answers = []
    for engine in (here.engine, served.engine):
        mailboxes = [Mailbox() for _ in range(5)]
        for number, mailbox in enumerate(mailboxes):
            engine.submit(request(f"{number}", range(3, 9 + number), logprobs=2), mailbox.put)
        answers.append([(tokens_of(deltas), text_of(deltas)) for deltas in (m.answer() for m in mailboxes)])
    assert answers[0] == answers[1]
    here.engine.abort()


def test_what_is_cancelled_emits_nothing_more_and_frees_its_blocks(served: Served) -> None:
    cancelled, after = Watched(), Mailbox()
    served.engine.submit(request("cancelled", [5, 6], **LONG), cancelled.put)
    assert cancelled.begun.wait(30)
    served.engine.cancel("cancelled")
    seen = cancelled.events.qsize()
    served.engine.submit(request("after", [5, 6]), after.put)
    after.answer()
    assert cancelled.events.qsize() == seen
    # The stats come with the step that ended the last answer; by then the cancelled one had gone.
    assert served.engine.stats().used_blocks == 0


def test_a_closed_engine_ends_its_streams_and_then_itself(served: Served) -> None:
    mailbox = Watched()
    served.engine.submit(request("last", [5, 6], **LONG), mailbox.put)
    assert mailbox.begun.wait(30)
    served.engine.close()
    with pytest.raises(EngineClosed):
        served.engine.submit(request("late", [5]), Mailbox().put)
    assert len(tokens_of(mailbox.answer())) == LONG["max_tokens"]
    served.engine.join()
    assert not served.engine.is_alive()


def test_when_the_process_is_killed_those_who_wait_are_told(served: Served) -> None:
    mailbox = Watched()
    served.engine.submit(request("one", [5, 6], **LONG), mailbox.put)
    assert mailbox.begun.wait(30)
    os.kill(process_of(served)._process.pid, signal.SIGKILL)
    served.engine.join()
    with pytest.raises(RuntimeError, match="the engine has stopped"):
        mailbox.answer()
    assert not served.engine.is_alive()
    with pytest.raises(EngineClosed):
        served.engine.submit(request("two", [5]), Mailbox().put)


def test_an_abort_fails_what_is_not_answered(served: Served) -> None:
    mailbox = Watched()
    served.engine.submit(request("one", [5, 6], **LONG), mailbox.put)
    assert mailbox.begun.wait(30)
    served.engine.abort()
    events = [mailbox.events.get(timeout=30) for _ in range(mailbox.events.qsize())]
    assert isinstance(events[-1], Failure) or (isinstance(events[-1], Delta) and events[-1].finish_reason)


def test_the_worker_ends_when_nobody_speaks_to_it_any_more(served: Served) -> None:
    """As when the process that speaks HTTP is killed: the socket is all that holds the two together."""
    engine = process_of(served)
    with socket.socket(fileno=os.dup(engine._connection.fileno())) as other_end:
        other_end.shutdown(socket.SHUT_RDWR)
    assert engine._process.wait(timeout=30) == 0


def test_a_refused_export_says_why(export: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not complete|COMPLETE"):
        start_engine(tmp_path, SETTINGS)
    broken = SETTINGS.model_copy(update={"serving_kv_megabytes": "no number"})
    with (
        pytest.warns(UserWarning, match="serializer"),
        pytest.raises(ValueError, match="ended with status 1 while loading"),
    ):
        start_engine(export, broken)

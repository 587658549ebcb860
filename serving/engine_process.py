"""An engine in a process of its own, so that neither its arithmetic nor the talking to clients waits for the other."""

import logging
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from serving.engine_messages import Abort, Cancel, Close, Ended, Events, Ready, Refused, Submit, ToEngine
from serving.engine_protocol import Emit, EngineClosed, Served, Stats
from serving.request import Failure, Request, is_last
from serving.settings import Settings
from trainer.data.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def start_engine(export: Path, settings: Settings) -> Served:
    """Load an export in a new process.

    Raises:
        ValueError: the export was refused, or the process died while loading it.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.engine_worker", str(theirs.fileno()), str(export),
             settings.model_dump_json()],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the process that speaks HTTP; this one ends after it
        )  # fmt: skip
    connection = Connection(ours.detach())
    try:
        answer = connection.recv()
    except EOFError:
        answer = Refused(f"the engine's process ended with status {process.wait()} while loading; its log says why")
    if isinstance(answer, Refused):
        connection.close()
        process.wait()
        raise ValueError(answer.reason)
    assert isinstance(answer, Ready)
    engine = EngineProcess(process, connection)
    return Served(engine, Tokenizer.load(export), answer.context, answer.vocab_size, answer.created, answer.gate)


class EngineProcess:
    """The `Engine` on this side of the socket. Events are emitted from the thread that reads it."""

    def __init__(self, process: "subprocess.Popen[bytes]", connection: Connection) -> None:
        self._process, self._connection = process, connection
        self._live: dict[str, Emit] = {}
        self._lock = threading.Lock()  # for all of the following, and what is sent
        self._closed = self._ended = False
        self._stats = Stats(0, 0, 0, 0, 0)
        self._reader = threading.Thread(target=self._read, name=f"engine-{process.pid}", daemon=True)
        self._reader.start()

    def submit(self, request: Request, emit: Emit) -> None:
        with self._lock:
            if self._closed:
                raise EngineClosed
            self._live[request.id] = emit
            if not self._send(Submit(request)):
                del self._live[request.id]
                raise EngineClosed

    def cancel(self, request_id: str) -> None:
        with self._lock:
            if self._live.pop(request_id, None) is not None:
                self._send(Cancel(request_id))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._send(Close())

    def join(self) -> None:
        self._reader.join()

    def abort(self) -> None:
        with self._lock:
            self._closed = True
            self._send(Abort())
        self.join()

    def is_alive(self) -> bool:
        return not self._ended

    def stats(self) -> Stats:
        with self._lock:
            waiting = len(self._live) - self._stats.running
            return replace(self._stats, waiting=max(0, waiting))

    def _send(self, message: ToEngine) -> bool:
        """False when the other side is gone; the reader learns it too and fails what waits."""
        if self._ended:
            return False
        try:
            self._connection.send(message)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        try:
            while not isinstance(message := self._connection.recv(), Ended):
                assert isinstance(message, Events)
                self._take(message)
        except (EOFError, OSError):
            logger.error("the engine's process %d has died", self._process.pid)
        with self._lock:
            self._closed = self._ended = True
            left, self._live = self._live, {}
            self._connection.close()
        for emit in left.values():
            emit(Failure("the engine has stopped; try again"))
        self._process.wait()

    def _take(self, message: Events) -> None:
        with self._lock:
            self._stats = message.stats
        for request_id, event in message.events:
            with self._lock:
                emit = self._live.pop(request_id, None) if is_last(event) else self._live.get(request_id)
            if emit is not None:
                emit(event)

"""python -m serving.engine_worker FD EXPORT SETTINGS: one export's engine, spoken to over a socket.

It ends when the engine has ended or the other side is gone.
"""

import logging
import queue
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from serving.engine import TorchEngine
from serving.engine_messages import Abort, Cancel, Close, Ended, Events, Ready, Refused, Submit
from serving.engine_protocol import EngineClosed, Served
from serving.loader import load_engine
from serving.request import Event, Failure
from serving.settings import Settings
from trainer.memory import keep_freed_memory

Batch = list[tuple[str, Event]]


class Worker:
    """An engine and its side of the socket. Events of a step go out together, sent beside the next step."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._step: Batch = []
        self._outbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._sent = threading.Event()

    def run(self, export: Path, settings: Settings) -> int:
        try:
            served = load_engine(export, settings, self._flush)
        except ValueError as error:
            self._connection.send(Refused(str(error)))
            return 1
        self._connection.send(Ready(served.context, served.vocab_size, served.created))
        assert isinstance(served.engine, TorchEngine)
        for target in (self._send, self._listen):
            threading.Thread(target=target, args=(served,), daemon=True).start()
        served.engine.run()
        self._outbox.put(None)
        self._sent.wait()
        return 0

    def _listen(self, served: Served) -> None:
        try:
            while True:
                self._obey(served, self._connection.recv())
        except (EOFError, OSError):
            served.engine.abort()

    def _obey(self, served: Served, message: object) -> None:
        match message:
            case Submit(request):
                try:
                    served.engine.submit(request, lambda event: self._step.append((request.id, event)))
                except EngineClosed:
                    self._outbox.put([(request.id, Failure("the engine has stopped; try again"))])
            case Cancel(request_id):
                served.engine.cancel(request_id)
            case Close():
                served.engine.close()
            case Abort():
                served.engine.abort()

    def _flush(self) -> None:
        """Runs in the engine's thread, which alone emits."""
        batch, self._step = self._step, []
        self._outbox.put(batch)

    def _send(self, served: Served) -> None:
        try:
            while (batch := self._outbox.get()) is not None:
                self._connection.send(Events(batch, served.engine.stats()))
            self._connection.send(Ended())
        except OSError:
            return  # nobody is there any more; `_listen` learns it too
        finally:
            self._sent.set()


def main() -> int:
    descriptor, export, settings = sys.argv[1:]
    parsed = Settings.model_validate_json(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if parsed.serving_threads:
        torch.set_num_threads(parsed.serving_threads)
    keep_freed_memory()
    return Worker(Connection(int(descriptor))).run(Path(export), parsed)


if __name__ == "__main__":
    sys.exit(main())

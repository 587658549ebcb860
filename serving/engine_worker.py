"""python -m serving.engine_worker FD EXPORT SETTINGS: one export's engine, spoken to over a socket.

It ends when the engine has ended or the other side is gone.
"""

import logging
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from serving.engine_messages import Abort, Cancel, Close, Ended, Events, FromEngine, Ready, Refused, Submit
from serving.engine_protocol import EngineClosed
from serving.loader import LocalEngine, load_engine
from serving.request import Event, Failure
from serving.settings import Settings
from trainer.memory import keep_freed_memory


class Worker:
    """An engine and its side of the socket. It runs in the main thread, which also sends what a step has emitted:
    another thread would take the interpreter from the next step just when that begins."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._engine: LocalEngine | None = None
        self._step: list[tuple[str, Event]] = []
        self._sending = threading.Lock()

    def run(self, export: Path, settings: Settings) -> int:
        try:
            served = load_engine(export, settings, self._send_step)
        except ValueError as error:
            self._connection.send(Refused(str(error)))
            return 1
        assert isinstance(served.engine, LocalEngine)
        self._engine = served.engine
        self._connection.send(Ready(served.context, served.vocab_size, served.created, served.gate))
        threading.Thread(target=self._listen, args=(served.engine,), daemon=True).start()
        served.engine.run()
        self._send(Ended())
        return 0

    def _listen(self, engine: LocalEngine) -> None:
        try:
            while True:
                self._obey(engine, self._connection.recv())
        except (EOFError, OSError):
            engine.abort()

    def _obey(self, engine: LocalEngine, message: object) -> None:
        match message:
            case Submit(request):
                try:
                    engine.submit(request, lambda event: self._step.append((request.id, event)))
                except EngineClosed:
                    late = Failure("the engine has stopped; try again")
                    self._send(Events([(request.id, late)], engine.stats()))
            case Cancel(request_id):
                engine.cancel(request_id)
            case Close():
                engine.close()
            case Abort():
                engine.abort()

    def _send_step(self) -> None:
        """Runs in the engine's thread, which alone emits."""
        events, self._step = self._step, []
        assert self._engine is not None
        self._send(Events(events, self._engine.stats()))

    def _send(self, message: FromEngine) -> None:
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                return  # nobody is there any more; `_listen` learns it too


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

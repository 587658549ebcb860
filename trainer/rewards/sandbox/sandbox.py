"""`Sandbox`: several zygotes side by side, and the functions most callers want."""

import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

from trainer.rewards.sandbox.isolation import require_isolation
from trainer.rewards.sandbox.limits import Limits, Outcome
from trainer.rewards.sandbox.process import Isolation, ZygoteProcess


class Sandbox:
    """Runs programs, `workers` of them at once; may be shared between threads.

    A context manager, since it holds processes; the machine's own isolation unless one is given.

    Raises:
        ValueError: the machine cannot isolate.
    """

    def __init__(self, workers: int = 1, isolation: Isolation | None = None) -> None:
        if workers < 1:
            raise ValueError(f"a sandbox needs at least one worker, not {workers}")
        self.workers = workers
        self._isolation = isolation or require_isolation()
        self._idle: queue.SimpleQueue[ZygoteProcess] = queue.SimpleQueue()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for _ in range(self.workers):
                self._idle.put(starting.enter_context(ZygoteProcess(self._isolation)))
            self._open = starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def run(self, program: str, *, stdin: str = "", limits: Limits | None = None) -> Outcome:
        """Run one program; waits for a free worker."""
        zygote = self._idle.get()
        try:
            return zygote.run(program, stdin, limits or Limits())
        finally:
            self._idle.put(zygote)

    def run_many(self, programs: Sequence[str], *, limits: Limits | None = None) -> list[Outcome]:
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(lambda program: self.run(program, limits=limits), programs))


def run_code(program: str, *, stdin: str = "", limits: Limits | None = None) -> Outcome:
    """Run one Python program, isolated. Starting its sandbox is most of the time; for many programs keep a `Sandbox`.

    Raises:
        ValueError: the machine cannot isolate.
    """
    with Sandbox() as sandbox:
        return sandbox.run(program, stdin=stdin, limits=limits)


def run_many(programs: Sequence[str], workers: int, *, limits: Limits | None = None) -> list[Outcome]:
    """Run Python programs, isolated, `workers` at once; outcomes in the order of the programs."""
    with Sandbox(workers) as sandbox:
        return sandbox.run_many(programs, limits=limits)

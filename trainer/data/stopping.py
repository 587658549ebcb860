"""How a data stage leaves a half-written folder behind it: by an exception, so that `new_folder` throws it away."""

from collections.abc import Iterator
from contextlib import contextmanager

from trainer.artifacts import Run


class Stopped(Exception):
    """The run was asked to stop."""


def stop_if_asked(run: Run) -> None:
    if run.stop_requested:
        raise Stopped


@contextmanager
def stoppable() -> Iterator[None]:
    """Ends quietly where the run was asked to stop; `run.stop_requested` tells the caller of the stage."""
    try:
        yield
    except Stopped:
        return

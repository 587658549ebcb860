"""How a data stage leaves a half-written folder behind it: by an exception, so that `new_folder` throws it away."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trainer.artifacts import Run

_SHOW_SECONDS = 0.5


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


def reporter(run: Run, what: str, unit: str, scale: int = 1) -> Callable[[int, int], None]:
    """A function (done, total) that ends a pass when the run was asked to stop, and shows its progress twice a second.

    Args:
        unit: what is counted, for people; `scale` of what the function is called with are one.
    """
    shown = 0.0

    def report(done: int, total: int) -> None:
        nonlocal shown
        stop_if_asked(run)
        now = time.monotonic()
        if now - shown >= _SHOW_SECONDS:
            shown = now
            done, total = done // scale, total // scale
            run.progress(done, total, f"{what}: {done:,} of {total:,} {unit}")

    return report

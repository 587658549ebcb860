"""One job in this process: lock its folder, run its stage, leave a final status. Imports no torch."""

import os
import signal
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from trainer.artifacts import Run, RunFolder

EXIT_FAILED, EXIT_CANCELLED = 1, 3


def execute(folder: RunFolder, stage: Callable[[Any, Run], None]) -> int:
    """Run one stage in this process and leave a final status; a user's mistake is one line, a defect a traceback."""
    with folder.lock():
        run = Run(folder, attempt=int(os.environ.get("OCTAVO_ATTEMPT", "1")))

        def on_sigterm(signum: int, frame: FrameType | None) -> None:
            run.stop_requested = True

        signal.signal(signal.SIGTERM, on_sigterm)
        try:
            stage(folder.job().spec, run)
        except ValueError as error:
            run.log(f"failed: {error}")
            run.finish("failed", str(error))
            return EXIT_FAILED
        except BaseException as error:
            traceback.print_exc()
            run.finish("failed", f"{type(error).__name__}: {error}")
            raise
        if run.stop_requested:
            run.finish("cancelled")
            return EXIT_CANCELLED
        run.finish("succeeded")
        return 0

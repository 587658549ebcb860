"""python -m trainer run RUN_DIR: job.json -> stage.run(spec, run). Exit 0 done, 1 failed, 3 cancelled."""

import argparse
import importlib
import os
import signal
import sys
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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run the job of a run folder").add_argument("run_dir")
    folder = RunFolder(parser.parse_args(arguments).run_dir)
    try:
        kind = folder.job().spec.kind
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    stage = importlib.import_module(f"trainer.stages.{kind}")
    return execute(folder, stage.run)


if __name__ == "__main__":
    sys.exit(main())

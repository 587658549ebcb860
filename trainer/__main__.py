"""The trainer's commands.

python -m trainer run RUN_DIR: job.json -> stage.run(spec, run). Exit 0 done, 1 failed, 3 cancelled.
python -m trainer plan SPEC: what a run would take, before it starts.
python -m trainer sandbox: what isolates model-written code here, and attacks on it.
"""

import argparse
import importlib
import sys

from trainer.artifacts import RunFolder
from trainer.process import EXIT_FAILED, execute


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["plan"]:
        command = importlib.import_module("trainer.plan.command")
        return int(command.main(arguments[1:]))
    if arguments == ["sandbox"]:
        return int(importlib.import_module("trainer.rewards.sandbox.command").main())
    parser = argparse.ArgumentParser(prog="python -m trainer")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("plan", help="what a run would take, before it starts")
    commands.add_parser("sandbox", help="what isolates model-written code here, and attacks on it")
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

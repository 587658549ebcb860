"""The trainer's commands.

python -m trainer run RUN_DIR: job.json -> stage.run(spec, run). Exit 0 done, 1 failed, 3 cancelled.
python -m trainer plan SPEC: what a run would take, before it starts.
python -m trainer search RUN_DIR QUERY: what a knowledge job's store knows.
python -m trainer check-problem: a Problem as JSON on stdin -> {"fault": null | text}, every step checked again.
python -m trainer inspect RUN_DIR: a packed row, token by token, and where it comes from.
python -m trainer drawn RUN_DIR --step N: the rows that a step of a training drew.
python -m trainer sandbox: what isolates model-written code here, and attacks on it.
"""

import argparse
import importlib
import sys

from trainer.artifacts import RunFolder
from trainer.process import EXIT_FAILED, execute

COMMANDS = {  # besides `run`: what they do, and where
    "plan": ("what a run would take, before it starts", "trainer.plan.command"),
    "drawn": ("the rows that a step of a training drew", "trainer.data.drawn_command"),
    "inspect": ("a packed row, token by token, and where it comes from", "trainer.data.inspection"),
    "check-problem": ("check a problem that stands on stdin as JSON", "trainer.data.synthesis.command"),
    "sandbox": ("what isolates model-written code here, and attacks on it", "trainer.rewards.sandbox.command"),
    "search": ("what a knowledge job's store knows", "trainer.data.knowledge.command"),
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in COMMANDS:
        command = importlib.import_module(COMMANDS[arguments[0]][1])
        return int(command.main(arguments[1:]))
    parser = argparse.ArgumentParser(prog="python -m trainer")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (does, _) in COMMANDS.items():
        commands.add_parser(name, help=does)
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

"""Ask a command of the trainer a question: what needs its code runs in a process of its own, never in the backend."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.errors import ApiError, Invalid
from backend.jobs.reuse import SOURCE_ROOT

ANSWER_SECONDS = 60.0
CHILD = Path(__file__).with_name("child.py")
REFUSAL = "error: "


class TimedOut(ApiError):
    status, code = 504, "timed_out"


def ask_trainer(arguments: Sequence[str], stdin: str = "", seconds: float = ANSWER_SECONDS) -> Any:
    """What `python -m trainer ARGUMENTS` prints, as JSON. The process dies with this one, and after `seconds`.

    Raises:
        Invalid: the command refuses, in its own sentence.
        TimedOut: it took longer.
    """
    paths = [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    command = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), sys.executable, "-m", "trainer", *arguments]
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"'{arguments[0]}' did not end within {seconds:g} s; try again, or ask for less") from error
    last = done.stderr.strip().rpartition("\n")[2]
    if done.returncode != 0 and last.startswith(REFUSAL):
        raise Invalid(last.removeprefix(REFUSAL))
    if done.returncode != 0:
        raise RuntimeError(f"python -m trainer {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)

"""The data that experiments train on: the first jobs of the nano recipe, run as the platform runs them."""

import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from trainer.artifacts import RunFolder
from trainer.spec import Job, JobSpec, load_recipe

KINDS = ("clean", "synthesize", "tokenize")


@cache
def nano_dataset() -> RunFolder:
    """The tokenize run of the nano recipe; made once a process, in a temporary folder that goes with it.

    Raises:
        ValueError: a job failed, with its log.
    """
    home = Path(_temporary_folder().name)
    done: dict[str, RunFolder] = {}
    for spec in load_recipe("nano").jobs:
        if spec.kind in KINDS:
            done[spec.name] = run_job(home / spec.name, spec, done)
    return next(folder for folder in reversed(done.values()) if folder.job().spec.kind == "tokenize")


@cache
def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Held by the cache until the interpreter exits, which removes it."""
    return tempfile.TemporaryDirectory(prefix="octavo-claims-")


def run_job(path: Path, spec: JobSpec, done: dict[str, RunFolder]) -> RunFolder:
    """Run one job in a process of its own."""
    folder = RunFolder(path)
    inputs = {role: str(done[name].path) for role, name in spec.inputs.items()}
    folder.write_job(Job(id=spec.name, spec=spec, inputs=inputs))
    command = [sys.executable, "-m", "trainer", "run", str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise ValueError(f"job '{spec.name}' failed:\n{finished.stdout}{finished.stderr}")
    return folder

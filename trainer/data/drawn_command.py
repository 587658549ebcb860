"""python -m trainer drawn SFT_RUN --step N: the rows that a step of a training drew, as JSON.

    {"phase", "rows": {source: [row, …]}}

Imports no torch.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from trainer.artifacts import RunFolder
from trainer.data.drawn import DRAWN, row_of_draw


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer drawn")
    parser.add_argument("training", type=Path, help="run folder of an sft job")
    parser.add_argument("--step", type=int, required=True, help="from 1 on, as in metrics.jsonl")
    parsed = parser.parse_args(arguments)
    try:
        found = rows_of_step(RunFolder(parsed.training), parsed.step)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


def rows_of_step(training: RunFolder, step: int) -> dict[str, Any]:
    """Phase of a step, and the rows it drew in order.

    Raises:
        ValueError: the run has no record of that step.
    """
    job, record = training.job(), training.artifacts / DRAWN
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True) if record.is_file() else []
    steps = (json.loads(line) for line in lines if line.endswith("\n"))
    drawn = next((found for found in steps if found["step"] == step), None)
    if drawn is None:
        raise ValueError(f"run {training.path.name} has no record of step {step}; only sft keeps one, from step 1 on")
    tokens = RunFolder(job.inputs["dataset"]).artifact("tokens")
    rows = {}
    for source, (first, count) in drawn["draws"].items():
        held = len(np.load(tokens / source / "train" / "tokens.npy", mmap_mode="r"))
        rows[source] = [row_of_draw(draw, held, job.spec.seed) for draw in range(first, first + count)]
    return {"phase": drawn["phase"], "rows": rows}

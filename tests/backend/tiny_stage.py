"""A stage that obeys the run-folder contract in a fraction of a second: python tiny_stage.py RUN_DIR.

It takes `train` steps, leaves a metric and a snapshot at each, stops at step `rl` (if not 0) until a file `go` lies in
its run folder, and fails when `families` says so.
"""

import sys
import time
from pathlib import Path
from typing import Any

from trainer.artifacts import Run, RunFolder, complete_steps, new_folder, step_folder
from trainer.process import execute


def resume_step(run: Run) -> int:
    snapshots = complete_steps(run.folder.volatile)
    return int(snapshots[-1].name.removeprefix("step_")) if snapshots else 0


def stage(spec: Any, run: Run) -> None:
    total = getattr(spec, "train", 2)
    start = resume_step(run)
    run.log(f"starting at step {start}, inputs {sorted(run.folder.job().inputs)}")
    run.rewind_metrics(start)
    if "fail" in getattr(spec, "families", ()):
        raise ValueError("asked to fail")
    for step in range(start + 1, total + 1):
        hold = step == getattr(spec, "rl", 0)
        run.metrics(step, {"loss": 1 / step, "broken": float("nan")})
        run.progress(step, total, "working")
        while hold and not run.stop_requested and not (run.folder.path / "go").exists():
            time.sleep(0.01)
        if run.stop_requested:
            return
        with new_folder(step_folder(run.folder.volatile, step)) as folder:
            (folder / "state").write_text(str(step))
    with new_folder(run.folder.artifacts / "problems") as folder:
        (folder / "train.jsonl").write_text('{"n": 1}\n{"n": 2}\n{"n": 12}\n')
    run.folder.write_result({"steps": total})


if __name__ == "__main__":
    sys.exit(execute(RunFolder(Path(sys.argv[1])), stage))

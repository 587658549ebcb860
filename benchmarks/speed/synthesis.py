"""python -m benchmarks.speed.synthesis: seconds for 100,000 verified problems, and how many of them are wrong.

The synthesize stage makes them, of all families and levels, as the platform runs it. Then each answer, and each
distractor's, is decided again by `substitution`, which shares nothing with the generator.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.machine import commit, hardware, today
from benchmarks.speed.substitution import is_right
from trainer.artifacts import Run, RunFolder, folder_hashes, read_jsonl, write_atomic
from trainer.spec import Job, Problem, SynthesizeSpec
from trainer.stages import synthesize

RESULTS = Path(__file__).parent.parent / "results" / "synthesis.json"
PROBLEMS, HELDOUT = 100_000, 1_000
MOST_SECONDS = 300


def generate(folder: Path, problems: int, processes: int, seed: int) -> tuple[RunFolder, float, float]:
    """A run of the stage, its seconds, and those of the processor."""
    spec = SynthesizeSpec(
        name="synthesize", levels=(1, 2, 3, 4, 5), train=problems - HELDOUT, rl=0, heldout=HELDOUT, seed=seed,
        processes=processes,
    )  # fmt: skip
    run = RunFolder(folder)
    run.write_job(Job(id=folder.name, spec=spec))
    started, worked = time.perf_counter(), processor_seconds()
    synthesize.run(spec, Run(run))
    return run, time.perf_counter() - started, processor_seconds() - worked


def processor_seconds() -> float:
    """Of this process and of those it started that have ended: what it takes however busy the machine is."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def judged(problems: Iterable[Problem]) -> Counter[str]:
    """How many answers there are and are wrong, and how many distractors there are and are right."""
    found: Counter[str] = Counter()
    for problem in problems:
        found["problems"] += 1
        found["distractors"] += len(problem.distractors)
        if not is_right(problem.family, problem.prompt, problem.answer):
            found["wrong"] += 1
            print(f"wrong: {problem.prompt} {problem.answer}", file=sys.stderr)
        for distractor in problem.distractors:
            if is_right(problem.family, problem.prompt, distractor.answer):
                found["right distractors"] += 1
                print(f"right: {problem.prompt} {distractor.answer}, not {problem.answer}", file=sys.stderr)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.synthesis")
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file the figures are written to")
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="octavo-synthesis-") as home:
        run, seconds, worked = generate(Path(home) / "run", parsed.problems, parsed.processes, parsed.seed)
        folder, result = run.artifact("problems"), run.result()
        hashes = folder_hashes(folder)
        found = judged(p for split in ("train", "heldout") for p in read_jsonl(folder / f"{split}.jsonl", Problem))
    figures = {
        "problems": found["problems"], "families": len(result["families"]["train"]), "seconds": round(seconds, 1),
        "processor seconds": round(worked, 1), "processes": parsed.processes,
        "wrong": found["wrong"], "distractors": found["distractors"],
        "right distractors": found["right distractors"], "rejected by the generator": sum(result["rejected"].values()),
        "mistakes": result["mistakes"],
    }  # fmt: skip
    for name, value in figures.items():
        print(f"{name:<26} {value}")
    print(f"within {MOST_SECONDS} s: {'met' if seconds <= MOST_SECONDS else 'not met'}")
    described = {
        "date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), "figures": figures,
        "sha256": hashes,
    }  # fmt: skip
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")
    print(f"kept in {parsed.results}")
    return 0 if not found["wrong"] and not found["right distractors"] else 1


if __name__ == "__main__":
    sys.exit(main())

"""Synthesize: generated problems, verified step by step, for training, reinforcement learning and evaluation."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from trainer.artifacts import Run, new_folder, read_jsonl
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.data.synthesis import SPLITS, Generator, Split, parallel, sampling
from trainer.data.synthesis.sampling import Cell, Judged
from trainer.data.synthesis.teacher import Teacher
from trainer.spec import Problem, SynthesizeSpec


def run(spec: SynthesizeSpec, run: Run) -> None:
    with stoppable():
        generator = Generator(spec.families, spec.levels, spec.seed, spec.heldout_wordings)
        shares = _adaptive_shares(spec, generator, run)
        plan = _plan(spec, generator, shares)
        with new_folder(run.folder.artifacts / "problems") as folder:
            _generate(spec, generator, plan, run, folder)
            teacher = _taught(spec, run, folder)
            counts = {split: _counts(folder, split) for split in SPLITS}
        result: dict[str, Any] = {
            "problems": {split: count.total() for split, count in counts.items()},
            "families": {split: _by_family(count) for split, count in counts.items()},
            "levels": {split: _by_level(count) for split, count in counts.items()},
            "rejected": dict(sorted(generator.rejected.items())),
            "mistakes": dict(sorted(generator.mistakes.items())),
        }
        if shares:
            result["adaptive"] = {"floor": spec.adaptive_floor, "shares": _nested(shares)}
        run.folder.write_result(result | ({"teacher": teacher} if teacher else {}))


def _adaptive_shares(spec: SynthesizeSpec, generator: Generator, run: Run) -> dict[Cell, float]:
    """Each family's and level's share of what is drawn for training; {} without an evaluation."""
    if "evaluation" not in spec.inputs:
        return {}
    cells = sorted({(family, level) for family, levels in generator.levels.items() for level in levels})
    answers = list(read_jsonl(run.input("evaluation").artifact("answers") / "answers.jsonl", Judged))
    if not any((answer.family, answer.level) in set(cells) for answer in answers):
        raise ValueError(
            "input 'evaluation' asked none of these families and levels, so it cannot say where the network is weak; "
            "bind an evaluate job that read problems of the same families"
        )
    return sampling.shares(sampling.weaknesses(cells, answers), spec.adaptive_floor)


def _plan(spec: SynthesizeSpec, generator: Generator, shares: dict[Cell, float]) -> dict[Split, list[Cell]]:
    """Families and levels of every problem in order. Held-out ones are always even: evaluations stay comparable."""
    wanted: dict[Split, int] = {"train": spec.train, "rl": spec.rl, "heldout": spec.heldout}
    return {
        split: sampling.in_proportion(shares, count)
        if shares and split != "heldout"
        else sampling.evenly(generator.levels, count)
        for split, count in wanted.items()
    }


def _generate(spec: SynthesizeSpec, generator: Generator, plan: parallel.Plan, run: Run, folder: Path) -> None:
    """All splits into the folder, in the plan's order; what was rejected is added to the generator's counts."""
    total, done = sum(map(len, plan.values())), 0
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".families-") as parts:
        for account in parallel.generate(generator, parallel.units(plan, Path(parts)), spec.processes):
            stop_if_asked(run)
            done += account.problems
            generator.rejected += account.rejected
            generator.mistakes += account.mistakes
            run.progress(done, total, "problems")
        stop_if_asked(run)
        for split, cells in plan.items():
            with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
                file.writelines(parallel.merged(cells, split, Path(parts)))
            run.log(f"{split}: {len(cells)} problems of {len({family for family, _ in cells})} families")


def _taught(spec: SynthesizeSpec, run: Run, folder: Path) -> dict[str, Any]:
    """Replace the solver's solutions of the training problems by the teacher's; {} without one."""
    if spec.teacher is None:
        return {}
    return Teacher(spec.teacher).teach(folder / "train.jsonl", run)


def _counts(folder: Path, split: Split) -> Counter[Cell]:
    return Counter((problem.family, problem.level) for problem in read_jsonl(folder / f"{split}.jsonl", Problem))


def _by_family(counts: Counter[Cell]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (family, _), count in counts.items():
        found[family] += count
    return dict(found)


def _by_level(counts: Counter[Cell]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (_, level), count in counts.items():
        found[str(level)] += count
    return dict(sorted(found.items()))


def _nested(shares: dict[Cell, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (family, level), share in shares.items():
        found.setdefault(family, {})[str(level)] = share
    return found

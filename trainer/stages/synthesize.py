"""Synthesize: generated problems, verified step by step, for training, reinforcement learning and evaluation."""

from collections import Counter
from collections.abc import Iterator

from trainer.artifacts import Run, new_folder, write_jsonl
from trainer.data.stopping import stop_if_asked, stoppable
from trainer.data.synthesis import SPLITS, Generator, Split
from trainer.spec import Problem, SynthesizeSpec

_REPORT_EVERY = 1_000  # problems


def run(spec: SynthesizeSpec, run: Run) -> None:
    with stoppable():
        generator = Generator(spec.families, spec.levels, spec.seed)
        families = _write(spec, generator, run)
        run.folder.write_result(
            {
                "problems": {split: count.total() for split, count in families.items()},
                "families": {split: dict(count) for split, count in families.items()},
                "rejected": dict(generator.rejected),
                "distractors": dict(generator.mistakes),
            }
        )


def _write(spec: SynthesizeSpec, generator: Generator, run: Run) -> dict[Split, Counter[str]]:
    """All splits, one after the other; returns problems by family for each."""
    wanted: dict[Split, int] = {"train": spec.train, "rl": spec.rl, "heldout": spec.heldout}
    families: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
    with new_folder(run.folder.artifacts / "problems") as folder:
        for split, count in families.items():
            problems = _watched(generator.problems(split, wanted[split]), run, families, split, sum(wanted.values()))
            write_jsonl(folder / f"{split}.jsonl", problems)
            run.log(f"{split}: {count.total()} problems of {len(count)} families")
    return families


def _watched(
    problems: Iterator[Problem], run: Run, families: dict[Split, Counter[str]], split: Split, total: int
) -> Iterator[Problem]:
    """The problems as they come, counted by family, with progress."""
    for index, problem in enumerate(problems):
        if index % _REPORT_EVERY == 0:
            stop_if_asked(run)
            run.progress(sum(count.total() for count in families.values()), total, "problems")
        families[split][problem.family] += 1
        yield problem

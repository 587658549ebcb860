"""Draw problems for a split, verify them, and count what was rejected.

Which split a problem belongs to is decided by the hash of its family and condition, so by its numbers: whatever the
seed, the wording and the counts asked for, no held-out problem is ever a training problem of another run.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from random import Random
from typing import Literal

from trainer.data.synthesis import verify
from trainer.data.synthesis.families import FAMILIES, Family, Question
from trainer.data.synthesis.working import Written, closing
from trainer.spec import Distractor, Problem

Split = Literal["train", "rl", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "rl", "heldout")
# Of 100 hash buckets: held-out ones below the first border, rl ones below the second, the rest trains.
_HELDOUT_BELOW, _RL_BELOW = 6, 53
_FRUITLESS_DRAWS = 5_000


class Generator:
    """Draws verified problems; `rejected` counts failures by "family: reason", `mistakes` distractors by type.

    Of each family's wordings the last `heldout_wordings` are kept for the held-out split, which has no others.

    Raises:
        ValueError: a family does not exist, or has none of the levels.
    """

    def __init__(self, families: Sequence[str], levels: Sequence[int], seed: int, heldout_wordings: int = 0) -> None:
        chosen = _chosen(families, levels)
        self.levels = {family.name: [level for level in levels if level in family.levels] for family in chosen}
        self.seed = seed
        self.heldout_wordings = heldout_wordings
        self.rejected: Counter[str] = Counter()
        self.mistakes: Counter[str] = Counter()

    def problems(self, split: Split, count: int) -> Iterator[Problem]:
        """`count` different problems, the families and each family's levels in turn; the same for the same seed.

        Raises:
            ValueError: a family has too few different problems, naming it.
        """
        streams = {name: self.of_family(name, split, cycle(levels)) for name, levels in self.levels.items()}
        for name in islice(cycle(streams), count):
            yield next(streams[name])

    def of_family(self, name: str, split: Split, levels: Iterator[int]) -> Iterator[Problem]:
        """Different problems of one family at these levels: independent of what other families give.

        Raises:
            ValueError: it has too few different ones.
        """
        rng, seen = Random(f"{self.seed}/{split}/{name}"), set[str]()
        for level in levels:
            yield self._next(FAMILIES[name], level, split, rng, seen)

    def _next(self, family: Family, level: int, split: Split, rng: Random, seen: set[str]) -> Problem:
        for _ in range(_FRUITLESS_DRAWS):
            question = family.draw(rng, level)
            prompt = rng.choice(self._wordings(question, split))
            identity = hashlib.sha256(prompt.encode()).hexdigest()[:16]
            if identity in seen or split_of(family.name, question.condition) != split:
                continue
            seen.add(identity)
            problem = self._verified(family.name, level, identity, prompt, question, split, rng)
            if problem is not None:
                return problem
        raise ValueError(
            f"family '{family.name}' has too few different problems at level {level} for split '{split}'; "
            "ask for fewer, or for more levels or families"
        )

    def _wordings(self, question: Question, split: Split) -> tuple[str, ...]:
        if not self.heldout_wordings:
            return question.wordings
        border = len(question.wordings) - self.heldout_wordings
        return question.wordings[border:] if split == "heldout" else question.wordings[:border]

    def _verified(
        self, name: str, level: int, identity: str, prompt: str, question: Question, split: Split, rng: Random
    ) -> Problem | None:
        right = question.solution()
        fault = verify.prompt_fault(prompt, question.condition) or question.solution_fault(right.solution)
        if fault is not None:
            self.rejected[f"{name}: {fault}"] += 1
            return None
        bare = split == "rl"
        distractors = () if bare else tuple(self._distractors(name, question, right, rng))
        if not bare and not distractors:
            self.rejected[f"{name}: no_distractor"] += 1
            return None
        return Problem(
            id=identity,
            family=name,
            level=level,
            prompt=prompt,
            solution="" if bare else right.solution,
            direct="" if bare else closing(right.answer),
            answer=right.answer,
            distractors=distractors,
            condition=question.kept_condition,
        )

    def _distractors(self, name: str, question: Question, right: Written, rng: Random) -> Iterator[Distractor]:
        """Every mistake that leads to a wrong answer which nobody gave yet."""
        given = {right.answer}
        for mistake, written in list(question.wrong(rng)):
            if written.answer in given:
                continue
            fault = question.distractor_fault(written)
            if fault is not None:
                self.rejected[f"{name}: {mistake}: {fault}"] += 1
                continue
            given.add(written.answer)
            self.mistakes[mistake] += 1
            yield Distractor(mistake=mistake, solution=written.solution, answer=written.answer)


def split_of(family: str, condition: str) -> Split:
    bucket = int.from_bytes(hashlib.sha256(f"{family}: {condition}".encode()).digest()[:8]) % 100
    return "heldout" if bucket < _HELDOUT_BELOW else "rl" if bucket < _RL_BELOW else "train"


def _chosen(names: Sequence[str], levels: Sequence[int]) -> list[Family]:
    """The families asked for; those with one of the levels where none is named."""
    for name in names:
        if name not in FAMILIES:
            raise ValueError(f"unknown family '{name}'; there are: {', '.join(FAMILIES)}")
        if not set(levels) & set(FAMILIES[name].levels):
            raise ValueError(f"family '{name}' has levels {FAMILIES[name].levels}, none of {tuple(levels)}")
    chosen = [FAMILIES[name] for name in names] or [
        family for family in FAMILIES.values() if set(levels) & set(family.levels)
    ]
    if not chosen:
        raise ValueError(f"no family has one of the levels {tuple(levels)}; levels go from 1 to 5")
    return chosen

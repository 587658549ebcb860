"""Draw problems for a split, verify them, and count what was rejected.

Which split a problem belongs to is decided by the hash of its family and equation, so by its numbers: whatever the
seed, the wording and the counts asked for, no held-out problem is ever a training problem of another run.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

from trainer.data.synthesis import verify
from trainer.data.synthesis.families import FAMILIES, Family, Question
from trainer.data.synthesis.working import Slip, Worked, closing, work
from trainer.spec import Distractor, Problem

Split = Literal["train", "rl", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "rl", "heldout")
# Of 100 hash buckets: held-out ones below the first border, rl ones below the second, the rest trains.
_HELDOUT_BELOW, _RL_BELOW = 6, 53
_FRUITLESS_DRAWS = 5_000


class Generator:
    """Draws verified problems; `rejected` counts failures by "family: reason", `mistakes` distractors by type.

    Raises:
        ValueError: a family does not exist, or has none of the levels.
    """

    def __init__(self, families: Sequence[str], levels: Sequence[int], seed: int) -> None:
        self.families = _chosen(families, levels)
        self.levels = {family.name: [level for level in levels if level in family.levels] for family in self.families}
        self.seed = seed
        self.rejected: Counter[str] = Counter()
        self.mistakes: Counter[str] = Counter()

    def problems(self, split: Split, count: int) -> Iterator[Problem]:
        """`count` different problems, the families and each family's levels in turn; the same for the same seed.

        Raises:
            ValueError: a family has too few different problems, naming it.
        """
        rngs = {family.name: Random(f"{self.seed}/{split}/{family.name}") for family in self.families}
        seen: set[str] = set()
        for index in range(count):
            turn, which = divmod(index, len(self.families))
            family = self.families[which]
            levels = self.levels[family.name]
            level = levels[turn % len(levels)]
            yield self._next(family, level, split, rngs[family.name], seen)

    def _next(self, family: Family, level: int, split: Split, rng: Random, seen: set[str]) -> Problem:
        for _ in range(_FRUITLESS_DRAWS):
            question = family.draw(rng, level)
            prompt = rng.choice(question.wordings)
            identity = hashlib.sha256(prompt.encode()).hexdigest()[:16]
            if identity in seen or split_of(family.name, question.equation) != split:
                continue
            seen.add(identity)
            problem = self._verified(family.name, level, identity, prompt, question, split, rng)
            if problem is not None:
                return problem
        raise ValueError(
            f"family '{family.name}' has too few different problems at level {level} for split '{split}'; "
            "ask for fewer, or for more levels or families"
        )

    def _verified(
        self, name: str, level: int, identity: str, prompt: str, question: Question, split: Split, rng: Random
    ) -> Problem | None:
        worked = work(question.plan)
        assert worked is not None, f"family '{name}' gave a plan that cannot be worked out: {question.plan}"
        fault = verify.prompt_fault(prompt, question.equation)
        fault = fault or verify.solution_fault(worked.solution, question.equation)
        if fault is not None:
            self.rejected[f"{name}: {fault}"] += 1
            return None
        answer = str(worked.result)
        if split == "rl":
            return Problem(id=identity, family=name, level=level, prompt=prompt, solution="", direct="", answer=answer)
        return Problem(
            id=identity,
            family=name,
            level=level,
            prompt=prompt,
            solution=worked.solution,
            direct=closing(worked.result),
            answer=answer,
            distractors=tuple(self._distractors(name, question, worked, rng)),
        )

    def _distractors(self, name: str, question: Question, worked: Worked, rng: Random) -> Iterator[Distractor]:
        """Every wrong plan and a slip of each kind, where they lead to a wrong answer that nobody gave yet."""
        wrong = {mistake: work(plan) for mistake, plan in question.wrong_plans.items()}
        wrong |= {slip.kind: work(question.plan, slip) for slip in _slips(worked, rng)}
        given = {worked.result}
        for mistake, candidate in wrong.items():
            if candidate is None or candidate.result in given:
                continue
            fault = verify.distractor_fault(candidate.solution, question.equation)
            if fault is not None:
                self.rejected[f"{name}: {mistake}: {fault}"] += 1
                continue
            given.add(candidate.result)
            self.mistakes[mistake] += 1
            yield Distractor(mistake=mistake, solution=candidate.solution, answer=str(candidate.result))


def split_of(family: str, equation: str) -> Split:
    bucket = int.from_bytes(hashlib.sha256(f"{family}: {equation}".encode()).digest()[:8]) % 100
    return "heldout" if bucket < _HELDOUT_BELOW else "rl" if bucket < _RL_BELOW else "train"


def _slips(worked: Worked, rng: Random) -> Iterator[Slip]:
    yield Slip("off_by_one", rng.randrange(len(worked.carries)))
    carrying = [column for column, carried in enumerate(worked.carries) if carried]
    if carrying:
        yield Slip("dropped_carry", rng.choice(carrying))


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

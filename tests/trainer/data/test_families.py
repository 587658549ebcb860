"""Laws of all families: what is written is true and read back, answers are what `math-verify` and the reward accept,
distractors are wrong for them too, and wordings differ."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import parse
from math_verify import verify as math_verify

from benchmarks.speed.substitution import is_right
from trainer.data.synthesis import FAMILIES, SPLITS, Generator, verify
from trainer.data.synthesis.check import solution_fault
from trainer.data.synthesis.families import Question
from trainer.data.synthesis.recheck import problem_fault
from trainer.rewards.correctness import correctness, same_answer, well_formed
from trainer.spec import Problem

LEVELS = (1, 2, 3, 4, 5)
SUBJECTS = {"arithmetic", "algebra", "geometry", "number theory", "calculus", "probability"}
EVERYWHERE = [name for name, family in FAMILIES.items() if family.levels == LEVELS]
draws = st.tuples(st.sampled_from(sorted(FAMILIES)), st.sampled_from(LEVELS), st.integers(0, 10**9))


def drawn(name: str, level: int, seed: int) -> tuple[Question, Random]:
    family, rng = FAMILIES[name], Random(seed)
    return family.draw(rng, level if level in family.levels else family.levels[0]), rng


def test_subjects_and_levels() -> None:
    assert {family.subject for family in FAMILIES.values()} == SUBJECTS
    assert len(EVERYWHERE) >= 24 + 11  # those worked in formulas, and arithmetic
    for subject in SUBJECTS:
        assert sum(family.subject == subject for family in FAMILIES.values()) >= 4


@settings(max_examples=250, deadline=None)
@given(drawn_from=draws)
def test_a_solution_is_true_read_back_and_right_by_other_means(drawn_from: tuple[str, int, int]) -> None:
    question, rng = drawn(*drawn_from)
    written = question.solution()
    assert question.solution_fault(written.solution) is None
    prompt = rng.choice(question.wordings)
    assert verify.prompt_fault(prompt, question.condition) is None
    assert is_right(drawn_from[0], prompt, written.answer)
    assert well_formed(written.solution)
    assert correctness(written.solution, written.answer) == 1.0


@settings(max_examples=100, deadline=None)
@given(drawn_from=draws)
def test_every_mistake_gives_a_wrong_answer_for_everybody(drawn_from: tuple[str, int, int]) -> None:
    """Unless it happens to lead to the right one, which is found."""
    question, rng = drawn(*drawn_from)
    right, prompt = question.solution().answer, question.wordings[0]
    for mistake, written in list(question.wrong(rng)):
        wrong = question.distractor_fault(written) is None
        assert wrong or question.distractor_fault(written) == "right_answer", mistake
        assert wrong == (not is_right(drawn_from[0], prompt, written.answer)), (mistake, written.answer, right)
        if wrong:
            assert not same_answer(written.answer, right)
            assert well_formed(written.solution)


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_parse_and_wordings_differ(name: str) -> None:
    for level in FAMILIES[name].levels:
        question, _ = drawn(name, level, level)
        answer = question.solution().answer
        parsed = parse(f"${answer}$")
        assert parsed, answer
        assert math_verify(parsed, parse(f"${answer}$"))
        assert len(set(question.wordings)) == len(question.wordings) >= 3


def test_the_kinds_of_mistakes() -> None:
    generator = Generator((), LEVELS, seed=2)
    problems = list(generator.problems("train", 1_000))
    kinds = Counter(distractor.mistake for problem in problems for distractor in problem.distractors)
    assert kinds == generator.mistakes
    assert len([kind for kind, count in kinds.items() if count >= 2]) >= 12
    assert all(problem.distractors for problem in problems)
    assert all(reason.endswith("no_distractor") for reason in generator.rejected)


def test_a_false_step_is_found_in_every_family() -> None:
    """One digit of one step changed: nearly always untrue, and never more than true."""
    found = total = 0
    for name in EVERYWHERE:
        question, rng = drawn(name, 2, 7)
        solution = question.solution().solution
        steps = solution[: solution.index("</think>")]
        places = [place for place, sign in enumerate(steps) if sign.isdigit()]
        for place in rng.sample(places, min(6, len(places))):
            other = str((int(solution[place]) + rng.randint(1, 9)) % 10)
            total += 1
            found += question.solution_fault(solution[:place] + other + solution[place + 1 :]) is not None
    assert found >= 0.9 * total


def test_faults_are_named() -> None:
    condition = "2x + 3 = 11"
    right = "<think>2x = 11 - 3 = 8; x = 8/2 = 4.</think>The answer is 4."
    assert solution_fault(right, condition) is None
    for old, new, reason, where in (
        ("11 - 3 = 8", "11 - 3 = 9", "false_step", "2x = 11 - 3 = 9"),
        ("2x = 11", "2x = some 11", "unreadable_step", "2x = some 11 - 3 = 8"),
        ("x = 8/2 = 4", "8/2 = 16/4 + 0*q", "unreadable_step", "8/2 = 16/4 + 0*q"),
        ("; x = 8/2 = 4", "", "not_derived", "4"),
        ("answer is 4", "answer is 5", "wrong_answer", "5"),
        ("answer is 4", "answer is four", "unreadable_answer", "four"),
        ("</think>", "", "unreadable_solution", ""),
    ):
        fault = solution_fault(right.replace(old, new), condition)
        assert fault is not None
        assert tuple(fault) == (reason, where)
    fault = solution_fault(right, "2x + 3 = 2x + 3")
    assert fault is not None
    assert fault.reason == "no_unique_answer"


def test_problems_of_every_split_can_be_checked_again_and_are_disjoint() -> None:
    generator = Generator((), LEVELS, 4)
    problems = {split: list(generator.problems(split, 300)) for split in SPLITS}
    for found in problems.values():
        for problem in found:
            assert problem_fault(problem) is None, problem
    ids = {split: {problem.id for problem in found} for split, found in problems.items()}
    assert not ids["train"] & ids["rl"]
    assert not ids["heldout"] & (ids["train"] | ids["rl"])


def test_a_condition_is_written_only_where_there_is_one() -> None:
    """Problems without stay byte for byte what they were."""
    bare, full = (next(Generator((name,), (1,), 0).problems("train", 1)) for name in ("addition", "linear_equation"))
    assert "condition" not in bare.model_dump_json()
    assert Problem.model_validate_json(full.model_dump_json()) == full


@pytest.mark.parametrize("kept", [1, 2])
def test_held_out_wordings_are_asked_nowhere_else(kept: int) -> None:
    family = FAMILIES["midpoint"]
    generator = Generator(("midpoint",), (2,), 0, heldout_wordings=kept)
    beginnings = {split: {p.prompt[:9] for p in generator.problems(split, 60)} for split in SPLITS}
    assert beginnings["train"] == beginnings["rl"]
    assert len(beginnings["heldout"]) == kept
    assert not beginnings["heldout"] & beginnings["train"]
    assert len(beginnings["train"]) == len(family.draw(Random(0), 2).wordings) - kept

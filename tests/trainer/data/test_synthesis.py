"""Laws of the problems that are worked digit by digit: what is written is true, distractors are wrong, splits are
disjoint."""

import re
from collections import Counter
from random import Random

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy.parsing.sympy_parser import parse_expr

from trainer.data.synthesis import FAMILIES, SPLITS, Generator, verify
from trainer.data.synthesis.families import arithmetic
from trainer.data.synthesis.families.arithmetic import Sum
from trainer.data.synthesis.generate import split_of
from trainer.data.synthesis.working import Operation, Plan, Slip, Worked, add, multiply, subtract, work
from trainer.spec import Problem

LEVELS = (1, 2, 3, 4, 5)
ARITHMETIC = {name: family for name, family in FAMILIES.items() if family.draw.__module__ == arithmetic.__name__}
EASY = tuple(name for name, family in ARITHMETIC.items() if 1 in family.levels)
number = st.integers(0, 99_999)


@pytest.fixture(scope="module")
def train() -> list[Problem]:
    return list(Generator(tuple(ARITHMETIC), LEVELS, seed=3).problems("train", 1_400))


def written(plan: Plan, slip: Slip | None = None) -> Worked:
    worked = work(plan, slip)
    assert worked is not None
    return worked


def value(plan: Plan) -> int:
    if not isinstance(plan, Operation):
        return plan
    left, right = value(plan.left), value(plan.right)
    return {"+": left + right, "-": left - right, "*": left * right}[plan.operator]


@settings(max_examples=200, deadline=None)
@given(a=number, b=number, digit=st.integers(0, 9))
def test_written_working_is_true_and_leads_to_the_value(a: int, b: int, digit: int) -> None:
    for plan in (add(a, b), subtract(a + b, b), multiply(a, digit), add(add(a, b), digit), multiply(add(a, b), digit)):
        worked = written(plan)
        assert worked.result == value(plan)
        read = verify.read_solution(worked.written.solution)
        assert read is not None
        assert [verify.block_fault(block) for block in read[0]] == [None] * len(read[0])
        assert int(read[1]) == value(plan)


@settings(max_examples=100, deadline=None)
@given(a=number, b=number, column=st.integers(0, 20))
def test_every_slip_is_found(a: int, b: int, column: int) -> None:
    right = written(add(a, b))
    column %= len(right.carries)
    slips = [Slip("off_by_one", column)] + [Slip("dropped_carry", column)] * right.carries[column]
    for slip in slips:
        fault = verify.solution_fault(written(add(a, b), slip).written.solution, f"x = {a} + {b}")
        assert fault in ("false_step", "wrong_digit")


def test_a_difference_below_zero_cannot_be_worked_out() -> None:
    assert work(subtract(3, 5)) is None
    assert work(7) is None


@pytest.mark.parametrize("family", ARITHMETIC.values(), ids=lambda family: family.name)
def test_equation_plan_and_wordings_agree_in_every_family(family) -> None:  # type: ignore[no-untyped-def]
    """SymPy's own parser and solver against the verifier's arithmetic and the plan's."""
    x = sympy.Symbol("x")
    for level in family.levels:
        for draw in range(4):
            question: Sum = family.draw(Random(f"{level}/{draw}"), level)
            left, right = (parse_expr(side) for side in question.equation.split("="))
            assert sympy.solve(left - right, x) == [verify.linear_root(question.equation)] == [value(question.plan)]
            assert 3 <= len(question.wordings) <= 4
            for wording in question.wordings:
                assert verify.prompt_fault(wording, question.equation) is None


def test_every_equation_in_every_solution_is_true_for_sympy(train: list[Problem]) -> None:
    for problem in train[::20]:
        equations = re.findall(r"(?:: |\. |> ?)([\d+*-]+)=(\d+)", problem.solution)
        assert len(equations) == problem.solution.count("=")
        for left, right in equations:
            assert parse_expr(left) == sympy.Integer(right)
        assert problem.solution.endswith(f"</think>{problem.direct}")
        assert problem.direct == f"The answer is {problem.answer}."


def test_every_distractor_is_wrong_and_typed(train: list[Problem]) -> None:
    mistakes: Counter[str] = Counter()
    for problem in train:
        answers = [distractor.answer for distractor in problem.distractors]
        assert problem.distractors
        assert len({*answers, problem.answer}) == len(answers) + 1
        for distractor in problem.distractors:
            assert sympy.Integer(distractor.answer) != sympy.Integer(problem.answer)
            assert distractor.solution.endswith(f"The answer is {distractor.answer}.")
            mistakes[distractor.mistake] += 1
    assert len(mistakes) >= 5
    assert min(mistakes.values()) > 20


def test_splits_are_disjoint_whatever_the_seed_and_cover_families_evenly() -> None:
    prompts = {
        split: [p for seed in (1, 2) for p in Generator(EASY, (1, 2), seed).problems(split, 300)] for split in SPLITS
    }
    ids = {split: {problem.id for problem in problems} for split, problems in prompts.items()}
    assert not ids["train"] & ids["rl"]
    assert not ids["heldout"] & (ids["train"] | ids["rl"])
    counts = Counter(problem.family for problem in list(Generator(EASY, (1, 2), 1).problems("heldout", 300)))
    assert set(counts) == set(EASY)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_rl_problems_hold_answers_only() -> None:
    for problem in Generator(EASY, (1,), 0).problems("rl", 50):
        assert (problem.solution, problem.direct, problem.distractors) == ("", "", ())
        assert problem.answer.isdigit()


def test_same_seed_same_problems_and_no_prompt_twice() -> None:
    first, second, other = (list(Generator(EASY, (1, 2), seed).problems("train", 400)) for seed in (5, 5, 6))
    assert first == second
    assert first != other
    assert len({problem.prompt for problem in first}) == 400


def test_a_fault_is_named() -> None:
    right = written(add(27, 15)).written.solution
    equation = "x = 27 + 15"
    assert verify.solution_fault(right, equation) is None
    for old, new, fault in (
        ("7+5=12", "7+5=13", "false_step"),
        ("write 2 carry 1", "write 3 carry 1", "wrong_digit"),
        ("2+1+1=4, write 4", "2+1+0=3, write 3", "broken_carry"),
        ("write 4 carry 0", "write 4 and stop", "unreadable_solution"),
        ("27+15", "28+15", "unknown_operand"),
        ("answer is 42", "answer is 43", "wrong_answer"),
    ):
        assert old in right
        assert verify.solution_fault(right.replace(old, new), equation) == fault
    assert verify.solution_fault(right, "x = 27 + 15 + 1 - 1 + 3") == "wrong_answer"
    assert verify.solution_fault(right, "0*x = 27 - 27 + 0*15") == "no_unique_answer"
    assert verify.distractor_fault(right, equation) == "right_answer"
    assert verify.prompt_fault("Add 27 and 16.", equation) == "prompt_numbers"


def test_a_false_family_is_rejected_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES["addition"]

    def wrong(rng: Random, level: int) -> Sum:
        question = family.draw(rng, level)
        assert isinstance(question, Sum)
        wrong_equation = question.equation + " + 1"
        return Sum(question.wordings, wrong_equation, question.plan)

    monkeypatch.setitem(FAMILIES, "addition", type(family)("addition", "arithmetic", wrong, (1,)))
    generator = Generator(("addition",), (1,), 0)
    with pytest.raises(ValueError, match="'addition' has too few different problems"):
        next(generator.problems("train", 1))
    assert generator.rejected["addition: wrong_answer"] > 100


def test_a_users_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="unknown family 'topology'"):
        Generator(("topology",), (1,), 0)
    with pytest.raises(ValueError, match="'third_angle' has levels"):
        Generator(("third_angle",), (1, 2), 0)
    with pytest.raises(ValueError, match="'exterior_angle' has too few different problems at level 1"):
        list(Generator(("exterior_angle",), (1,), 0).problems("heldout", 5_000))


def test_the_split_depends_on_the_numbers_only() -> None:
    assert split_of("addition", "x = 1 + 2") == split_of("addition", "x = 1 + 2")
    shares = Counter(split_of("addition", f"x = {a} + 5") for a in range(3_000))
    assert 0.03 < shares["heldout"] / 3_000 < 0.09
    assert abs(shares["rl"] - shares["train"]) < 300


def test_the_evaluator_knows_nothing_but_arithmetic() -> None:
    assert verify.evaluate("(3 - x)/4*2", x=1) == 1
    for text in ("__import__('os')", "2**9", "y + 1", "1.5"):
        with pytest.raises(ValueError, match="cannot evaluate"):
            verify.evaluate(text)

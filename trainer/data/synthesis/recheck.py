"""Check a problem again from what it says of itself: after a person has edited it, or another model has solved it."""

import re

from trainer.data.synthesis import verify
from trainer.data.synthesis.check import Fault, solution_fault
from trainer.data.synthesis.conditions import answer_fault
from trainer.data.synthesis.working import closing
from trainer.spec import Problem

# Numbers that a question implies: the factor of a perimeter, an angle sum, how many sides a polygon has.
_IMPLIED = frozenset({"2", "4", "5", "6", "7", "8", "180"})
_WHY = {
    "unreadable_solution": "the solution is not of the form <think>steps</think>The answer is ….",
    "unreadable_step": "a step cannot be read as a chain of formulas",
    "unreadable_answer": "the answer cannot be read",
    "no_steps": "there are no steps",
    "false_step": "a step is not true",
    "wrong_digit": "a digit is not the one calculated",
    "broken_carry": "a carry is not handed on",
    "wrong_result": "an operation's result is wrong",
    "unknown_operand": "a step works with a number that is neither given nor an earlier result",
    "unused_number": "a number of the question is not used",
    "not_derived": "no step arrives at the answer",
    "wrong_answer": "the answer is wrong",
    "no_unique_answer": "the condition does not have exactly one answer",
    "prompt_numbers": "the question has a number that its condition lacks",
    "another_answer": "the solution, the direct answer and the answer do not agree",
    "right_answer": "a distractor's answer is right",
}


def problem_fault(problem: Problem) -> str | None:
    """Why a problem is not accepted, in a sentence, or None: its numbers, every step, the answer, the distractors."""
    fault = _fault(problem)
    if fault is None:
        return None
    return ": ".join(part for part in (_WHY[fault.reason], fault.where) if part)


def solved_fault(solution: str, problem: Problem) -> Fault | None:
    """Why a worked solution of the problem is not accepted, or None."""
    if problem.condition:
        return solution_fault(solution, problem.condition)
    if verify.read_solution(solution) is not None:
        return _digits_fault(solution, problem)
    return solution_fault(solution, f"x = {problem.answer}")


def _fault(problem: Problem) -> Fault | None:
    if problem.condition and verify.prompt_fault(problem.prompt, problem.condition):
        return Fault("prompt_numbers", problem.prompt)
    if problem.condition and (wrong := answer_fault(problem.answer, problem.condition)):
        return Fault(wrong, problem.answer)
    if problem.solution or problem.direct:
        if problem.direct != closing(problem.answer) or not problem.solution.endswith(f"</think>{problem.direct}"):
            return Fault("another_answer")
        if (found := solved_fault(problem.solution, problem)) is not None:
            return found
    for distractor in problem.distractors:
        if _is_right(distractor.answer, problem):
            return Fault("right_answer", distractor.answer)
        if not distractor.solution.endswith(closing(distractor.answer)):
            return Fault("another_answer", distractor.solution)
    return None


def _is_right(answer: str, problem: Problem) -> bool:
    return answer_fault(answer, problem.condition or f"x = {problem.answer}") is None


def _digits_fault(solution: str, problem: Problem) -> Fault | None:
    """Of a solution worked digit by digit: it is true, works with the question's numbers, and uses all of them."""
    read = verify.read_solution(solution)
    assert read is not None, "the caller has looked"
    blocks, answer = read
    given = set(re.findall(r"\d+", problem.prompt))
    known, used = given | _IMPLIED, set[str]()
    for block in blocks:
        if not {block.left, block.right} <= known:
            return Fault("unknown_operand", f"{block.left} {block.operator} {block.right}")
        fault = verify.block_fault(block)
        if fault is not None:
            return Fault(fault, f"{block.left} {block.operator} {block.right}")
        used |= {block.left, block.right}
        known.add(str(block.result))
    if not given <= used:
        return Fault("unused_number", ", ".join(sorted(given - used)))
    return None if answer == str(blocks[-1].result) == problem.answer else Fault("wrong_answer", answer)

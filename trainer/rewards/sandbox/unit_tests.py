"""R_corr of code: the share of a task's tests that a solution passes, which the solution cannot forge.

Two programs run, one after the other; they share no memory, not even what an earlier one left:

1. the solution, the setup, and the questions of the tests (`ask.py`), whose answers are handed on as plain data;
2. the judge (`judge.py`), which compares the answers with what the tests expect.

Both are isolated, for tests and setups are code that somebody else wrote as well, if not against the judge.
So the one process that a solution could subvert does not know what is expected, and the one that knows has never run a
line of it. Leaving early with status 0, printing verdicts, patching the checker, an `__eq__` that agrees with all,
closing files, hanging in an exit handler: all of them end in wrong answers or in none.

What remains possible: a solution that knows the expected values by heart, or a test whose expected value is easily
guessed (`assert f(3)` holds for whoever says True). A test that compares two answers of the solution (`f(1) == g(1)`)
checks no more than that they agree. Only plain data can be an answer: numbers, text, bytes, ranges, None, and lists,
tuples, sets and dictionaries of them; a test of anything else counts as failed.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from trainer.rewards.sandbox.limits import Limits
from trainer.rewards.sandbox.questions import quiz
from trainer.rewards.sandbox.sandbox import Sandbox


class Task(NamedTuple):
    """A solution and what it is judged by; `tests` are assert statements."""

    solution: str
    setup: str
    tests: Sequence[str]


def verdicts(task: Task, sandbox: Sandbox, limits: Limits | None = None) -> list[bool]:
    """Whether each test holds. All of them share one run of the solution, so what follows one that hangs fails as well.

    Raises:
        ValueError: a test is no assert, or asks nothing of the solution.
    """
    questions = quiz(task.setup, task.tests)
    asked = [test.asked for test in questions.tests]
    asking = _program("ask", "answer", {"solution": task.solution, "setup": task.setup, "asked": asked})
    answers = sandbox.run(asking, limits=limits).stdout
    judged = [test.judged for test in questions.tests]
    judging = _program("judge", "judge", {"setup": questions.setup, "judged": judged})
    judgement = sandbox.run(judging, stdin=answers, limits=limits)
    if judgement.status != "ok":  # it had to compare what it could not bear
        return [False] * len(task.tests)
    return [bool(verdict) for verdict in json.loads(judgement.stdout)]


def share_passed(
    solution: str,
    setup: str,
    tests: Sequence[str],
    *,
    sandbox: Sandbox | None = None,
    limits: Limits | None = None,
) -> float:
    """R_corr = passed tests / tests, in [0, 1], of source texts: `solution`, then `setup`, then each of `tests`.

    Raises:
        ValueError: a test is no assert, or asks nothing of the solution; or the machine cannot isolate.
    """
    if sandbox is None:
        with Sandbox() as own:
            return share_passed(solution, setup, tests, sandbox=own, limits=limits)
    held = verdicts(Task(solution, setup, tests), sandbox, limits)
    return sum(held) / len(held)


def shares_passed(tasks: Sequence[Task], workers: int, *, limits: Limits | None = None) -> list[float]:
    """`share_passed` of each task, `workers` at once."""
    with Sandbox(workers) as sandbox, ThreadPoolExecutor(workers) as threads:
        return list(threads.map(lambda task: share_passed(*task, sandbox=sandbox, limits=limits), tasks))


def _program(module: str, function: str, task: dict[str, object]) -> str:
    source = Path(__file__).with_name(f"{module}.py").read_text()
    return f"{source}\n{function}(json.loads({json.dumps(task)!r}))\n"

"""A problem checked again, as after a person's edit; and the command that does it for others."""

import io
import json
import re
import subprocess
import sys

import pytest

from trainer.__main__ import main
from trainer.data.synthesis import Generator
from trainer.data.synthesis.recheck import problem_fault
from trainer.spec import Problem

ADDITION, EQUATION = (
    next(Generator((name,), (1,), 3).problems("train", 1)) for name in ("addition", "linear_equation")
)


def changed(problem: Problem, old: str, new: str) -> Problem:
    """Everywhere it stands, as a person edits a text."""
    text = problem.model_dump_json()
    assert old in text
    return Problem.model_validate_json(text.replace(old, new))


def test_generated_problems_have_no_fault_and_rewording_is_no_fault() -> None:
    for problem in (ADDITION, EQUATION):
        assert problem_fault(problem) is None
        assert problem_fault(problem.model_copy(update={"prompt": f"Please help: {problem.prompt}"})) is None


@pytest.mark.parametrize("problem", [ADDITION, EQUATION], ids=lambda problem: problem.family)
def test_an_edit_that_makes_something_untrue_is_found(problem: Problem) -> None:
    other = str(int(problem.answer) + 1)
    for edited, why in (
        (problem.model_copy(update={"answer": other}), "do not agree|answer is wrong"),
        (problem.model_copy(update={"direct": "It is so."}), "do not agree"),
        (problem.model_copy(update={"prompt": "What about 98765?"}), "lacks|not used|neither given"),
        (
            problem.model_copy(update={"solution": f"<think>1 + 1 = 3.</think>{problem.direct}"}),
            "not true: 1 \\+ 1 = 3",
        ),
        (problem.model_copy(update={"solution": f"<think>1 + 1 = 2.</think>{problem.direct}"}), "no step arrives"),
        (
            problem.model_copy(
                update={"distractors": (problem.distractors[0].model_copy(update={"answer": problem.answer}),)}
            ),
            "distractor's answer is right",
        ),
    ):
        fault = problem_fault(edited)
        assert fault is not None
        assert re.search(why, fault), fault


def test_a_digit_changed_in_the_working_is_found() -> None:
    place = ADDITION.solution.index("write ") + len("write ")
    digit = str((int(ADDITION.solution[place]) + 1) % 10)
    wrong = ADDITION.solution[:place] + digit + ADDITION.solution[place + 1 :]
    assert problem_fault(ADDITION.model_copy(update={"solution": wrong})) == "a digit is not the one calculated: " + (
        ADDITION.solution.partition(":")[0].removeprefix("<think>").replace("+", " + ")
    )


def test_the_command_speaks_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for text, fault in (
        (EQUATION.model_dump_json(), None),
        (EQUATION.model_copy(update={"answer": "1/0"}).model_dump_json(), "the answer cannot be read: 1/0"),
        ("{", "not JSON"),
        ('{"id": "a"}', "family: Field required"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert main(["check-problem"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert set(found) == {"fault"}
        assert found["fault"] == fault or (fault and fault in found["fault"])


def test_the_command_in_a_process_of_its_own_loads_no_torch() -> None:
    code = "import sys; from trainer.__main__ import main; main(['check-problem']); sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=EQUATION.model_dump_json(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, '{"fault": null}\n'), done.stderr

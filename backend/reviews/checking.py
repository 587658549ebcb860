"""An edited problem must be as true as a generated one: the trainer checks it symbolically, in a process of its own."""

import hashlib
from typing import Any

from backend.asking import ask_trainer
from backend.errors import Invalid
from trainer.spec import Problem


def checked(problem: Problem) -> dict[str, Any]:
    """The problem, identified by its prompt as it is now.

    Raises:
        Invalid: a step, the answer or a distractor is not what it should be.
    """
    identity = hashlib.sha256(problem.prompt.encode()).hexdigest()[:16]
    named = problem.model_copy(update={"id": identity})
    fault = ask_trainer(["check-problem"], named.model_dump_json())["fault"]
    if fault is not None:
        raise Invalid(f"the edited problem was checked and is not right: {fault}; correct it, or reject it")
    return named.model_dump(mode="json")

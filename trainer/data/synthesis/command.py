"""python -m trainer check-problem: a Problem as JSON on stdin -> {"fault": null | text} on stdout."""

import argparse
import json
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from trainer.data.synthesis.recheck import problem_fault
from trainer.spec import Problem, explain


def main(arguments: Sequence[str] = ()) -> int:
    argparse.ArgumentParser(prog="python -m trainer check-problem").parse_args(arguments)
    try:
        fault = problem_fault(Problem.model_validate_json(sys.stdin.read()))
    except ValidationError as error:
        fault = explain(error)
    print(json.dumps({"fault": fault}, ensure_ascii=False))
    return 0

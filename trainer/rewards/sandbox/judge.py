"""Runs inside, as a program of its own: compares a solution's values (its stdin, see `ask.py`) with what tests expect.

The solution has never run in this process, and all that it has sent is decoded into plain data.
"""

import json
import os
import sys
from typing import Any

ANSWERS = "__answers__"  # the values of one test, by which its questions are replaced


def decode(value: Any) -> Any:
    """The inverse of `ask.encode`.

    Raises:
        ValueError, TypeError, KeyError, RecursionError: the text is no encoded value.
    """
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise TypeError("an object is not how a value is encoded")
        return value
    name, content = value
    if name == "dict":
        return {decode(key): decode(item) for key, item in content}
    if name in ("complex", "range"):
        return {"complex": complex, "range": range}[name](*content)
    if name == "bytes":
        return bytes(content)
    containers = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
    return containers[name](decode(item) for item in content)


def read_answers(lines: Any) -> dict[int, list[Any]]:
    answers = {}
    for line in lines:
        try:
            number, values = json.loads(line)
            answers[int(number)] = [decode(value) for value in values]
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            continue  # a line that the solution wrote itself, or a value that was cut off
    return answers


def holds(condition: str, names: dict[str, Any], values: list[Any]) -> bool:
    try:
        return bool(eval(condition, {**names, ANSWERS: values}))
    except Exception:  # noqa: BLE001 a comparison that raises does not hold
        return False


def judge(task: dict[str, Any]) -> None:
    """`task`: "setup", a source text, and "judged", a condition for each test. Writes a list of 0 and 1 to stdout."""
    channel = os.dup(1)
    os.dup2(2, 1)
    sys.set_int_max_str_digits(0)
    names: dict[str, Any] = {}
    exec(compile(task["setup"], "<setup>", "exec", dont_inherit=True), names)
    answers = read_answers(sys.stdin)
    verdicts = [
        int(number in answers and holds(condition, names, answers[number]))
        for number, condition in enumerate(task["judged"])
    ]
    os.write(channel, json.dumps(verdicts).encode())
    os._exit(0)

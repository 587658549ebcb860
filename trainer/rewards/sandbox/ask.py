"""Runs inside, as a program: the solution, the setup, then the questions that the tests ask of them.

Values are written, one line a test, on what was stdout; what the solution prints goes to stderr. No expected value is
in this process, so whoever takes over the channel can say no more than a function that returns what it likes.
"""

import json
import os
import sys
import types
from typing import Any

Plain = Any  # what JSON holds

CONTAINERS = (list, tuple, set, frozenset)


def encode(value: object) -> Plain:
    """Plain data as JSON: what JSON has no word for as [name of the type, content].

    An object of a subclass becomes one of the type itself, so what travels cannot say how it is compared.

    Raises:
        TypeError: the value is none of the plain types.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(item)] for key, item in value.items()]]
    for container in CONTAINERS:
        if isinstance(value, container):
            return [container.__name__, [encode(item) for item in value]]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, bytes | bytearray):
        return ["bytes", list(value)]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    raise TypeError(f"a value of type {type(value).__name__} cannot be handed over")


def answer(task: dict[str, Any]) -> None:
    """`task`: "solution" and "setup", source texts, and "asked", for each test its expressions."""
    channel = os.dup(1)
    os.dup2(2, 1)
    sys.set_int_max_str_digits(0)
    module = types.ModuleType("solution")
    sys.modules["solution"] = module  # where dataclasses and others look for it
    for name in ("solution", "setup"):
        exec(compile(task[name], f"<{name}>", "exec", dont_inherit=True), module.__dict__)
    for number, expressions in enumerate(task["asked"]):
        try:
            line = json.dumps([number, [encode(eval(expression, module.__dict__)) for expression in expressions]])
        except Exception as error:  # noqa: BLE001 a test that raises has failed, and the next one is asked
            print(f"test {number}: {error!r}", file=sys.stderr)
        else:
            os.write(channel, line.encode() + b"\n")
    sys.stderr.flush()
    os._exit(0)

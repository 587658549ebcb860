"""Running model-written code where it can do no harm.

A program gets one process with one thread, a Python without any packages, its stdin, and an empty folder of its own; no
network, no other files, no other process, no environment. `isolation.py` says what this stands on, `escapes.py` what it
is tried against, and `unit_tests.py` makes rewards of it that a program cannot forge.
"""

from trainer.rewards.sandbox.isolation import require_isolation
from trainer.rewards.sandbox.limits import Limits, Outcome
from trainer.rewards.sandbox.process import Isolation
from trainer.rewards.sandbox.sandbox import Sandbox, run_code, run_many
from trainer.rewards.sandbox.unit_tests import Task, share_passed, shares_passed

__all__ = [
    "Isolation",
    "Limits",
    "Outcome",
    "Sandbox",
    "Task",
    "require_isolation",
    "run_code",
    "run_many",
    "share_passed",
    "shares_passed",
]

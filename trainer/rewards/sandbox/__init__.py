"""Running model-written code where it can do no harm.

A program gets one process with one thread, a Python without any packages, its stdin, and an empty folder of its own; no
network, no other files, no other process, no environment. See `isolation.py` for what this stands on, `escapes.py` for what
it has been tried against, and `unit_tests.py` for rewards that a program cannot forge.
"""

from trainer.rewards.sandbox.isolation import require_isolation
from trainer.rewards.sandbox.limits import Limits, Outcome
from trainer.rewards.sandbox.process import Isolation
from trainer.rewards.sandbox.sandbox import Sandbox, run_code, run_many

__all__ = ["Isolation", "Limits", "Outcome", "Sandbox", "require_isolation", "run_code", "run_many"]

"""Generated problems with worked, verified solutions and typed wrong ones.

families    what is asked: numbers, wordings, a condition for the answer, a solver, wrong ways
working     how sums are written down digit by digit, rightly or with a slip; `verify` reads that back
steps       how a solver's trace is written down, a formula a step; `check` reads that back, with
conditions  what an answer has to satisfy, and
expression  the exact value of a written formula
generate    draws problems for a split and counts what was rejected; `sampling` says of what, `parallel` in how many
            processes
teacher     solutions of another model, verified alike
"""

from trainer.data.synthesis.families import FAMILIES
from trainer.data.synthesis.generate import SPLITS, Generator, Split

__all__ = ["FAMILIES", "SPLITS", "Generator", "Split"]

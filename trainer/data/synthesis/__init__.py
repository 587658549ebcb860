"""Generated problems with worked, verified solutions and typed wrong ones.

families  what is asked: numbers, wordings, an equation for the answer, a plan to work it out, wrong plans
working   how a plan is written down digit by digit, rightly or with a slip
verify    SymPy reads what was written and decides whether it is true
generate  draws problems for a split and counts what was rejected
"""

from trainer.data.synthesis.families import FAMILIES
from trainer.data.synthesis.generate import SPLITS, Generator, Split

__all__ = ["FAMILIES", "SPLITS", "Generator", "Split"]

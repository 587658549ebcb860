"""The families of problems, by subject; importing this fills the registry in this order."""

from trainer.data.synthesis.families import algebra as algebra
from trainer.data.synthesis.families import arithmetic as arithmetic
from trainer.data.synthesis.families import calculus as calculus
from trainer.data.synthesis.families import geometry as geometry
from trainer.data.synthesis.families import numbers as numbers
from trainer.data.synthesis.families import probability as probability
from trainer.data.synthesis.families.registry import FAMILIES, Family, Question

__all__ = ["FAMILIES", "Family", "Question"]

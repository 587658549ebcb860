"""Finds the experiments by their file names, so that adding a file adds a claim."""

import importlib
import pkgutil
import re

from benchmarks import claims
from benchmarks.claims.claim import Claim

FILE_NAME = re.compile(r"claim_(\d\d)_\w+")


def modules() -> dict[int, str]:
    """Claim number -> module name, in order of number; imports none of them."""
    names = [module.name for module in pkgutil.iter_modules(claims.__path__)]
    return dict(sorted((int(found[1]), name) for name in names if (found := FILE_NAME.fullmatch(name))))


def load(number: int) -> Claim:
    """One experiment.

    Raises:
        ValueError: there is none for this claim; lists those that there are.
    """
    known = modules()
    if number not in known:
        there_are = ", ".join(str(known_number) for known_number in known)
        raise ValueError(f"there is no experiment for claim {number} yet; there are experiments for: {there_are}")
    claim = importlib.import_module(f"{claims.__name__}.{known[number]}").CLAIM
    assert isinstance(claim, Claim), f"{known[number]} has no CLAIM"
    assert claim.number == number, f"{known[number]} says that it is claim {claim.number}"
    return claim

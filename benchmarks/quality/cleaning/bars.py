"""A measured share beside the bar that is asked of it."""

import operator
from typing import Any

from trainer.intervals import wilson

_REACHES = {">=": operator.ge, "<=": operator.le}


def share(hits: int, n: int) -> dict[str, Any]:
    """A share and its 95 % interval."""
    found = wilson(hits, n)
    return {
        "share": round(found.mean, 5),
        "interval": [round(found.low, 5), round(found.high, 5)],
        "hits": hits,
        "n": n,
    }


def judged(name: str, measured: float, comparison: str, bar: float) -> dict[str, Any]:
    return {
        "name": name, "measured": round(measured, 5), "comparison": comparison, "bar": bar,
        "verdict": "met" if _REACHES[comparison](measured, bar) else "not met",
    }  # fmt: skip


def line(bar: dict[str, Any]) -> str:
    return f"{bar['verdict']:<8}{bar['name']}: {bar['measured']} (bar {bar['comparison']} {bar['bar']})"

"""Metrics of a run as curves: gathered step by step, thinned for the eye, grouped into charts. Imports no Streamlit."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dashboard.schemas import MetricRow

Points = list[tuple[int, float]]
EXPERT_LOAD = re.compile(r"^load/layer(\d+)/expert(\d+)$")
# Charts people look for first; the rest follows by name.
FIRST = (
    "loss",
    "reward/total",
    "exact_match",
    "reward",
    "lr",
    "learning_rate",
    "tokens_per_second",
    "heldout_loss",
    "kl",
    "accuracy",
)


@dataclass
class Curves:
    """Everything heard of one attempt of one job; `next` is what to ask for from."""

    attempt: int = 0
    next: int = 0
    values: dict[str, dict[int, float]] = field(default_factory=dict)

    def add(self, rows: Iterable[MetricRow], next: int) -> None:
        for row in rows:
            for name, value in row.values.items():
                if value is not None:
                    self.values.setdefault(name, {})[row.step] = value
        self.next = next

    def points(self, name: str) -> Points:
        return sorted(self.values.get(name, {}).items())

    def names(self) -> list[str]:
        """Every curve but the experts' load, the most looked for first."""
        facts = self.facts()
        return sorted((name for name in self.values if not EXPERT_LOAD.match(name) and name not in facts), key=_rank)

    def facts(self) -> dict[str, float]:
        """What was recorded once, such as whether the network was compiled, in a run that has curves."""
        plain = {name: list(values.values()) for name, values in self.values.items() if not EXPERT_LOAD.match(name)}
        if all(len(values) == 1 for values in plain.values()):
            return {}
        return {name: values[0] for name, values in plain.items() if len(values) == 1}

    def expert_load(self) -> dict[str, Points]:
        """Each expert's share of the (token, choice) pairs, mean over layers, by step."""
        sums: dict[int, dict[int, list[float]]] = {}
        for name, values in self.values.items():
            if match := EXPERT_LOAD.match(name):
                expert = sums.setdefault(int(match[2]), {})
                for step, value in values.items():
                    expert.setdefault(step, []).append(value)
        return {
            f"expert {expert}": sorted((step, sum(found) / len(found)) for step, found in steps.items())
            for expert, steps in sorted(sums.items())
        }

    def load_map(self) -> list[dict[str, float]]:
        """The newest share of each layer's experts: rows of layer, expert, share, and its ratio to an even share."""
        cells = [
            (int(match[1]), int(match[2]), values[max(values)])
            for name, values in self.values.items()
            if (match := EXPERT_LOAD.match(name))
        ]
        experts = len({expert for _, expert, _ in cells})
        return [
            {"layer": layer, "expert": expert, "share": share, "ratio": share * experts}
            for layer, expert, share in sorted(cells)
        ]


def _rank(name: str) -> tuple[int, str]:
    known = [FIRST.index(part) for part in (name, name.split("/")[0]) if part in FIRST]
    return (min(known, default=len(FIRST)), name)


def thinned(points: Sequence[tuple[int, float]], limit: int = 400) -> Points:
    """At most `limit` (≥ 4) points of the same outline: the lowest and highest of each stretch, and both ends."""
    assert limit >= 4
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    stretches = (limit - 2) // 2
    kept = [points[0]]
    for index in range(stretches):
        part = inner[index * len(inner) // stretches : (index + 1) * len(inner) // stretches]
        low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
        kept += sorted({low, high})
    return [*kept, points[-1]]

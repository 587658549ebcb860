"""Names experts that are ill, from the shares of tokens they received. Pure: numbers in, findings out; no torch.

A *load* holds, for each layer, each expert's share of the (token, choice) pairs; the shares of a layer sum to 1. A
*load by domain* splits each of these shares by the domain of the token; all entries of a layer sum to 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["dead", "overloaded", "roleless"]
Load = Sequence[Sequence[float]]  # [layer][expert]
DomainLoad = Sequence[Sequence[Sequence[float]]]  # [layer][expert][domain]

PATIENCE = 5  # checks in a row that must agree
DEAD_BELOW = 0.1  # of an even share
OVERLOADED_ABOVE = 2.0  # even shares
PREFERENCE = 1.2  # a domain's share of an expert's tokens over its share of all tokens; below it nothing is preferred


@dataclass(frozen=True)
class Finding:
    """One ill expert: what is wrong with it and what would help, each a sentence."""

    kind: Kind
    layer: int
    expert: int
    sentence: str
    remedy: str

    @property
    def key(self) -> tuple[str, int, int]:
        """What stays the same while the finding lasts."""
        return self.kind, self.layer, self.expert


def examine(history: Sequence[Load], by_domain: DomainLoad | None = None) -> list[Finding]:
    """All findings, layer by layer.

    Args:
        history: the loads of the checks so far, oldest first; with fewer than `PATIENCE` nobody is dead or overloaded.
        by_domain: given when experts are meant to have roles; recent, over enough tokens for shares to mean something.
    """
    findings = []
    if len(history) >= PATIENCE:
        layers = zip(*history[-PATIENCE:], strict=True)
        findings += [found for layer, checks in enumerate(layers) for found in _by_load(layer, checks)]
    if by_domain is not None:
        findings += [found for layer, load_ES in enumerate(by_domain) for found in _by_role(layer, load_ES)]
    return sorted(findings, key=lambda finding: (finding.layer, finding.expert))


def busiest(load_E: Sequence[float]) -> int:
    return max(range(len(load_E)), key=load_E.__getitem__)


def _by_load(layer: int, checks: Sequence[Sequence[float]]) -> Iterator[Finding]:
    """Dead and overloaded experts of one layer, from its shares in the last checks."""
    newest = checks[-1]
    even, most, least = 1 / len(newest), busiest(newest), min(range(len(newest)), key=newest.__getitem__)
    for expert, shares in enumerate(zip(*checks, strict=True)):
        place = f"expert {expert} of layer {layer}"
        if max(shares) < DEAD_BELOW * even:
            yield Finding(
                "dead",
                layer,
                expert,
                f"{place} is dead: at most {_percent(max(shares))} of the choices in each of the last {PATIENCE} "
                f"checks, where an even share is {_percent(even)}",
                f"start it again as a copy of the busiest, expert {most}, with noise on its weights and its router "
                'row (doctor = "apply" does this), or raise balance_weight',
            )
        elif min(shares) > OVERLOADED_ABOVE * even:
            yield Finding(
                "overloaded",
                layer,
                expert,
                f"{place} is overloaded: at least {_percent(min(shares))} of the choices in each of the last "
                f"{PATIENCE} checks, where an even share is {_percent(even)}",
                f"raise balance_weight, or split it: put a copy of it with noise in the place of the least used, "
                f"expert {least}",
            )


def _by_role(layer: int, load_ES: Sequence[Sequence[float]]) -> Iterator[Finding]:
    """Experts of one layer that take every domain as often as their load alone explains, if there are several."""
    domains_S = [sum(column) for column in zip(*load_ES, strict=True)]
    if sum(share > 0 for share in domains_S) < 2:
        return
    for expert, load_S in enumerate(load_ES):
        load = sum(load_S)
        if load < DEAD_BELOW / len(load_ES):
            continue  # too few tokens to show a preference
        lifts = [share / (load * of_all) for share, of_all in zip(load_S, domains_S, strict=True) if of_all > 0]
        if max(lifts) < PREFERENCE:
            yield Finding(
                "roleless",
                layer,
                expert,
                f"expert {expert} of layer {layer} has no role: no domain comes to it more than {max(lifts):.2f} "
                "times as often as to the layer as a whole",
                "raise the weight of the specialisation loss, or count it among the general experts",
            )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"

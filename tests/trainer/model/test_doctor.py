"""The doctor: loads made up to be ill in one way give exactly that finding."""

import pytest

from trainer.model.doctor import DEAD_BELOW, OVERLOADED_ABOVE, PATIENCE, Load, examine

EVEN = [0.125] * 8


def load(**shares: float) -> list[float]:
    """Eight experts, those named `e<number>` with a share of their own, the others with equal parts of the rest."""
    own = {int(name[1:]): share for name, share in shares.items()}
    rest = (1 - sum(own.values())) / (8 - len(own))
    return [own.get(expert, rest) for expert in range(8)]


def kinds(history: list[Load], by_domain: list[list[list[float]]] | None = None) -> list[tuple[str, int, int]]:
    return [finding.key for finding in examine(history, by_domain)]


def test_even_experts_are_well() -> None:
    assert kinds([[EVEN, EVEN]] * 2 * PATIENCE) == []


def test_dead_and_overloaded_experts_are_named_by_layer() -> None:
    ill: Load = [load(e2=0.001), EVEN, load(e7=0.4, e0=0.0)]
    assert kinds([ill] * PATIENCE) == [("dead", 0, 2), ("dead", 2, 0), ("overloaded", 2, 7)]


@pytest.mark.parametrize("ill", [load(e2=0.001), load(e2=0.4)])
def test_only_what_lasts_is_a_finding(ill: list[float]) -> None:
    assert kinds([[ill]] * (PATIENCE - 1)) == []
    assert kinds([[EVEN], *[[ill]] * (PATIENCE - 1)]) == []
    assert kinds([*[[ill]] * (PATIENCE - 1), [EVEN]]) == []
    assert len(kinds([[EVEN], *[[ill]] * PATIENCE])) == 1


@pytest.mark.parametrize(("factor", "found"), [(DEAD_BELOW, 0), (0.09, 1), (OVERLOADED_ABOVE, 0), (2.01, 1)])
def test_limits_are_multiples_of_an_even_share(factor: float, found: int) -> None:
    assert len(kinds([[load(e4=factor / 8)]] * PATIENCE)) == found


def test_a_finding_says_what_is_wrong_and_what_to_do() -> None:
    [dead] = examine([[load(e2=0.001, e5=0.2)]] * PATIENCE)
    assert dead.sentence == (
        "expert 2 of layer 0 is dead: at most 0.1 % of the choices in each of the last 5 checks, where an even share "
        "is 12.5 %"
    )
    assert "copy of the busiest, expert 5" in dead.remedy
    [overloaded] = examine([[load(e2=0.4, e6=0.05)]] * PATIENCE)
    assert "expert 2 of layer 0 is overloaded: at least 40 %" in overloaded.sentence
    assert "expert 6" in overloaded.remedy


def test_an_expert_that_takes_every_domain_alike_has_no_role() -> None:
    # Two domains, 70 and 30 % of the tokens. Expert 2 takes them as they come, 0 and 1 prefer one each.
    by_domain = [[[0.4, 0.05], [0.09, 0.16], [0.21, 0.09]]]
    assert kinds([], by_domain) == [("roleless", 0, 2)]
    assert kinds([], [[[0.5, 0.0], [0.5, 0.0]]]) == [], "where there is one domain, nobody can prefer it"
    assert "no role" in examine([], by_domain)[0].sentence


def test_too_few_tokens_show_no_preference_and_an_absent_domain_does_not_count() -> None:
    assert kinds([], [[[0.6, 0.0, 0.1], [0.05, 0.25, 0.0], [0.0005, 0.0005, 0.0]]]) == []
    assert kinds([], [[[0.3, 0.2, 0.0], [0.3, 0.2, 0.0]]]) == [("roleless", 0, 0), ("roleless", 0, 1)]

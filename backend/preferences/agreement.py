"""How far judges agree, and whether one has a bias: pure functions of counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import comb


def two_sided_p(successes: int, trials: int) -> float:
    """Chance that a fair coin lands at least as far from one half: the exact binomial test; 1 without a trial."""
    far = max(successes, trials - successes)
    tail = sum(comb(trials, k) for k in range(far, trials + 1))
    return min(1.0, float(Fraction(2 * tail, 2**trials)))


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """(p_o - p_e) / (1 - p_e) of two judges' verdicts on the same things (Cohen 1960).

    p_o is the share of equal verdicts, p_e what their own shares of verdicts would give by chance. None without a
    thing that both judged, or where both always give the same single verdict.
    """
    n = len(pairs)
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    by_chance = sum(first[verdict] * second[verdict] for verdict in first) / n**2 if n else 1.0
    observed = sum(one == other for one, other in pairs) / n if n else 1.0
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def krippendorffs_alpha(units: Mapping[str, Sequence[str]]) -> float | None:
    """1 - D_o / D_e for nominal verdicts, any number of judges a thing (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability", section C).

    With coincidences o_cd = sum over units of (ordered pairs of verdicts c, d) / (m_u - 1), n_c their row sums and n
    their total: alpha = 1 - (n - 1) sum_(c != d) o_cd / sum_(c != d) n_c n_d. None where no thing has two verdicts, or
    all are the same.
    """
    disagreements, totals = 0.0, Counter[str]()
    for verdicts in units.values():
        if len(verdicts) < 2:
            continue
        counts = Counter(verdicts)
        equal = sum(count * (count - 1) for count in counts.values())
        disagreements += (len(verdicts) * (len(verdicts) - 1) - equal) / (len(verdicts) - 1)
        totals += counts
    n = totals.total()
    expected = n**2 - sum(count**2 for count in totals.values())
    return 1 - (n - 1) * disagreements / expected if expected else None

"""The rater meter: each person as a judge. Reads labels, decides nothing about them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median

from sqlalchemy import select

from backend.platform import Platform
from backend.preferences.agreement import cohens_kappa, krippendorffs_alpha, two_sided_p
from backend.preferences.schemas import RaterSchema, RatersSchema
from backend.preferences.service import latest_labels
from backend.preferences.tables import LabelRow
from backend.users.tables import UserRow

# A fair judge is farther from one half than this once in a thousand looks; twelve labels of one side are enough.
BIASED_P = 0.001
INCONSISTENT, FEWEST_REPEATS = 0.6, 5
HASTY_SECONDS, FEWEST_LABELS = 1.0, 10

Verdicts = Mapping[str, str]  # pair -> "a", "b", "tie" or "both_bad"


def raters(platform: Platform) -> RatersSchema:
    """Everybody who has judged a pair, by name, and how far they agree."""
    with platform.database.read() as session:
        names = {user.id: user.name for user in session.scalars(select(UserRow).order_by(UserRow.name))}
        latest = list(session.scalars(latest_labels().where(LabelRow.choice != "undo")))
        repeats = list(session.scalars(select(LabelRow).where(LabelRow.repeat.is_(True))))
    given, again = _by_user(latest), _by_user(repeats)
    verdicts = {user: verdicts_of(labels) for user, labels in given.items()}
    kappas = {(one, other): kappa(verdicts[one], verdicts[other]) for one, other in combinations(sorted(verdicts), 2)}
    units = units_of(verdicts.values())
    return RatersSchema(
        raters=[
            rater(user, names[user], given[user], again.get(user, []), _of(user, kappas, names))
            for user in names
            if user in given
        ],
        shared_pairs=len(units),
        contradicted=sum({"a", "b"} <= set(said) for said in units.values()),
        alpha=krippendorffs_alpha(units),
    )


def _by_user(labels: Iterable[LabelRow]) -> dict[str, list[LabelRow]]:
    found: dict[str, list[LabelRow]] = {}
    for label in labels:
        found.setdefault(label.user_id, []).append(label)
    return found


def _of(user: str, kappas: Mapping[tuple[str, str], float | None], names: Mapping[str, str]) -> dict[str, float | None]:
    return {
        names[other if one == user else one]: value for (one, other), value in kappas.items() if user in (one, other)
    }


def verdict(label: LabelRow) -> str:
    """Which answer a label prefers, whichever side it was on."""
    if label.choice in ("left", "right"):
        return "a" if (label.choice == "left") == (label.position == "ab") else "b"
    return label.choice


def verdicts_of(labels: Iterable[LabelRow]) -> dict[str, str]:
    return {label.pair_id: verdict(label) for label in labels if label.choice != "skip"}


def kappa(one: Verdicts, other: Verdicts) -> float | None:
    return cohens_kappa([(one[pair], other[pair]) for pair in sorted(one.keys() & other.keys())])


def units_of(verdicts: Iterable[Verdicts]) -> dict[str, list[str]]:
    """What was said of each pair that several people judged."""
    said: dict[str, list[str]] = {}
    for mine in verdicts:
        for pair, what in mine.items():
            said.setdefault(pair, []).append(what)
    return {pair: whats for pair, whats in said.items() if len(whats) > 1}


def rater(
    user: str, name: str, labels: Sequence[LabelRow], repeats: Sequence[LabelRow], kappas: dict[str, float | None]
) -> RaterSchema:
    """One person's figures and what is alarming about them."""
    judged = [label for label in labels if label.choice != "skip"]
    sides = [label for label in [*judged, *repeats] if label.choice in ("left", "right")]
    left = sum(label.choice == "left" for label in sides)
    first = {label.pair_id: label for label in judged}
    twice = [(first[label.pair_id], label) for label in repeats if label.pair_id in first and label.choice != "skip"]
    swapped = [(old, new) for old, new in twice if old.position != new.position and new.choice in ("left", "right")]
    found = RaterSchema(
        user=user, name=name, labels=len(judged), skipped=len(labels) - len(judged), left=left,
        right=len(sides) - left, left_p=two_sided_p(left, len(sides)),
        median_seconds=median(label.seconds for label in judged) if judged else None,
        repeats=len(twice), consistent=_share(verdict(old) == verdict(new) for old, new in twice),
        swapped=len(swapped), same_side=_share(old.choice == new.choice for old, new in swapped), kappa=kappas,
        alarms=[],
    )  # fmt: skip
    return found.model_copy(update={"alarms": alarms(found)})


def _share(outcomes: Iterable[bool]) -> float | None:
    counted = list(outcomes)
    return sum(counted) / len(counted) if counted else None


def alarms(rater: RaterSchema) -> list[str]:
    """What to talk to the person about; their labels stay."""
    found = []
    if rater.left_p < BIASED_P:
        side, count = ("left", rater.left) if rater.left > rater.right else ("right", rater.right)
        found.append(f"chose the {side} answer {count} of {rater.left + rater.right} times, whatever stood there")
    if rater.consistent is not None and rater.repeats >= FEWEST_REPEATS and rater.consistent < INCONSISTENT:
        found.append(f"judged {rater.consistent:.0%} of {rater.repeats} repeated pairs alike")
    if rater.median_seconds is not None and rater.labels >= FEWEST_LABELS and rater.median_seconds < HASTY_SECONDS:
        found.append(f"takes {rater.median_seconds:.1f} s for a pair")
    return found

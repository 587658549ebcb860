"""Several people at once: quotas, hidden repeats, taking back, withdrawing, and what the meter says of a person."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import NotFound
from backend.platform import Platform
from backend.preferences import pairs, service
from backend.preferences.freeze import compared_pairs
from backend.preferences.raters import raters
from backend.preferences.schemas import NewLabel, NewPair, NextPair, RaterSchema
from backend.preferences.tables import Choice
from backend.users.tables import UserRow
from trainer.spec import Message, Pair

Judge = Callable[[NextPair], Choice]


def with_settings(platform: Platform, **changes: Any) -> Platform:
    return replace(platform, settings=platform.settings.model_copy(update=changes))


def fill(platform: Platform, count: int) -> None:
    prompt = (Message(role="user", content="which?"),)
    new = (Pair(id="", prompt=prompt, chosen=f"good {n}", rejected=f"bad {n}", origin="test") for n in range(count))
    pairs.add_pairs(platform, new)


def person(platform: Platform, name: str) -> UserRow:
    user = UserRow(name=name, role="labeller", created=time.time())
    with platform.database.write() as session:
        session.add(user)
    return user


def good(shown: NextPair) -> Choice:
    return "left" if shown.left.startswith("good") else "right"


def label(platform: Platform, user: UserRow, shown: NextPair, choice: Choice, seconds: float = 5.0) -> None:
    service.add_label(platform, user, NewLabel(pair=shown.id, position=shown.position, choice=choice, seconds=seconds))


def judge_all(platform: Platform, user: UserRow, judge: Judge, most: int = 10_000) -> list[NextPair]:
    """What a person was shown until nothing was left, or they had enough."""
    seen: list[NextPair] = []
    while len(seen) < most and (shown := service.next_pair(platform, user)) is not None:
        label(platform, user, shown, judge(shown))
        seen.append(shown)
    return seen


def meter(platform: Platform, user: UserRow) -> RaterSchema:
    [found] = [rater for rater in raters(platform).raters if rater.user == user.id]
    return found


def test_a_share_of_the_pairs_is_judged_by_two_people_and_the_others_by_one(platform: Platform) -> None:
    platform = with_settings(platform, label_overlap=0.3, label_repeats=0.0)
    fill(platform, 100)
    ann, ben, eve = (person(platform, name) for name in ("ann", "ben", "eve"))
    first = {shown.id for shown in judge_all(platform, ann, good)}
    second = {shown.id for shown in judge_all(platform, ben, good)}
    assert len(first) == 100
    # Of 100 pairs at 0.3 each, fewer than 10 or more than 60 happen less than once in a million.
    assert 10 < len(second) < 60
    assert second < first
    assert service.next_pair(platform, eve) is None
    assert raters(platform).shared_pairs == len(second)


def test_a_skipped_pair_goes_to_somebody_else_and_not_back(platform: Platform) -> None:
    platform = with_settings(platform, label_overlap=0.0)
    fill(platform, 1)
    ann, ben = person(platform, "ann"), person(platform, "ben")
    assert len(judge_all(platform, ann, lambda shown: "skip")) == 1
    assert len(judge_all(platform, ben, good)) == 1
    assert compared_pairs(platform)[0].chosen == "good 0"


def test_the_lowest_rank_is_asked_first(platform: Platform) -> None:
    prompt = (Message(role="user", content="which?"),)
    new = [Pair(id=str(n), prompt=prompt, chosen=f"good {n}", rejected="bad", origin="") for n in range(5)]
    pairs.add_pairs(platform, new, rank=lambda pair: -float(pair.id))
    seen = judge_all(with_settings(platform, label_repeats=0.0), person(platform, "ann"), good)
    assert [max(shown.left, shown.right) for shown in seen] == [f"good {n}" for n in (4, 3, 2, 1, 0)]


def test_hidden_repeats_come_late_enough_in_both_orders_and_train_nothing(platform: Platform) -> None:
    platform = with_settings(platform, label_overlap=0.0, label_repeats=0.2)
    fill(platform, 60)
    ann = person(platform, "ann")
    seen = judge_all(platform, ann, good)
    place: dict[str, int] = {}
    turned = []
    for number, shown in enumerate(seen):
        if shown.id in place:
            assert number - place[shown.id] >= service.REPEAT_AFTER
            turned.append(shown.position != seen[place[shown.id]].position)
        place.setdefault(shown.id, number)
    assert len(turned) == 12
    assert turned.count(True) == 6
    assert len(compared_pairs(platform)) == 60
    found = meter(platform, ann)
    assert (found.labels, found.repeats, found.consistent, found.swapped, found.same_side) == (60, 12, 1, 6, 0)
    assert found.alarms == []


def test_a_label_taken_back_counts_no_more_and_its_pair_is_shown_again(platform: Platform) -> None:
    platform = with_settings(platform, label_overlap=0.0)
    fill(platform, 2)
    ann = person(platform, "ann")
    assert service.undo(platform, ann) is None
    first = judge_all(platform, ann, good, most=1)[0]
    other = service.next_pair(platform, ann)
    again = service.undo(platform, ann)
    assert again is not None
    assert other is not None
    assert (again.id, again.position, again.remaining) == (first.id, first.position, 2)
    assert compared_pairs(platform) == []
    assert service.summary(platform, ann).labelled == 0
    assert service.next_pair(platform, ann) == again
    label(platform, ann, again, "tie")
    [shared] = compared_pairs(platform)
    assert shared.preference == 0.5
    [own] = service.own_labels(platform, ann, 10)
    assert (own.pair, own.choice, own.left, own.right) == (first.id, "tie", first.left, first.right)
    assert service.next_pair(platform, ann) is not None


def test_a_withdrawn_pair_is_asked_of_nobody_and_used_by_nothing(platform: Platform) -> None:
    fill(platform, 1)
    ann = person(platform, "ann")
    shown = judge_all(platform, ann, good)[0]
    pairs.withdraw(platform, shown.id)
    assert compared_pairs(platform) == []
    assert service.next_pair(platform, person(platform, "ben")) is None
    with pytest.raises(NotFound, match="withdrawn: the label was not kept"):
        label(platform, ann, shown, "left")
    with pytest.raises(NotFound):
        pairs.withdraw(platform, "nothing")


def test_pairs_without_a_choice_are_counted_by_reason(platform: Platform) -> None:
    prompt = (Message(role="user", content="which?"),)

    def pair(chosen: str, rejected: str) -> Pair:
        return Pair(id="", prompt=prompt, chosen=chosen, rejected=rejected, origin="")

    found = pairs.add_pairs(platform, [pair("a", "b"), pair("a ", "a"), pair("", "b"), pair("b", " "), pair("a", "b")])
    assert (found.imported, found.known) == (1, 1)
    assert found.refused == {"an answer is empty": 2, "the two answers are equal": 1}
    with pytest.raises(ValueError, match="the two answers are equal"):
        NewPair(prompt=prompt, a="same", b="same")


def test_opposite_labels_cancel_and_are_counted_as_contradicted(platform: Platform) -> None:
    platform = with_settings(platform, label_overlap=1.0, label_repeats=0.0)
    fill(platform, 4)
    judge_all(platform, person(platform, "ann"), good)
    judge_all(platform, person(platform, "ben"), lambda shown: "right" if good(shown) == "left" else "left")
    assert [pair.preference for pair in compared_pairs(platform)] == [0.5] * 4
    found = raters(platform)
    assert (found.shared_pairs, found.contradicted) == (4, 4)
    assert [list(rater.kappa.values()) for rater in found.raters] == [[0], [0]]


def test_who_always_chooses_left_is_found_out_within_thirty_labels_and_a_careful_person_is_not(
    platform: Platform,
) -> None:
    platform = with_settings(platform, label_overlap=1.0, label_repeats=0.1)
    fill(platform, 30)
    lazy, careful = person(platform, "lazy"), person(platform, "careful")
    judge_all(platform, lazy, lambda shown: "left", most=30)
    judge_all(platform, careful, good, most=30)
    assert any("left answer 30 of 30" in alarm for alarm in meter(platform, lazy).alarms)
    assert meter(platform, careful).alarms == []


def test_who_tosses_a_coin_or_hurries_is_found_out(platform: Platform) -> None:
    platform = with_settings(platform, label_overlap=0.0, label_repeats=0.5)
    fill(platform, 60)
    coin, chance = person(platform, "coin"), random.Random(3)
    for _ in range(80):
        shown = service.next_pair(platform, coin)
        assert shown is not None
        label(platform, coin, shown, chance.choice(("left", "right", "tie", "both_bad")), seconds=0.4)
    found = meter(platform, coin)
    assert found.consistent is not None
    assert found.consistent < 0.6
    assert [("alike" in alarm, "0.4 s" in alarm) for alarm in found.alarms] == [(True, False), (False, True)]


def test_uncertain_pairs_and_those_judged_wrongly_are_asked_first(platform: Platform, tmp_path: Path) -> None:
    made = [Pair(id=name, prompt=(), chosen="c", rejected="r", origin="") for name in "abcd"]
    scores = {"a": 2.0, "b": -0.1, "c": 0.5, "d": -3.0}
    assert [pair.id for pair in pairs.ranked(made, scores, "uncertain")] == ["b", "c", "a", "d"]
    assert [pair.id for pair in pairs.ranked(made, scores, "disagreement")] == ["d", "b"]

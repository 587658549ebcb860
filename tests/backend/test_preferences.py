"""Labels: who sees what, what a judgement means, and what a training job gets of it."""

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from backend.errors import Conflict, Invalid
from backend.jobs.binding import bind
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.preferences import pairs as queue
from backend.preferences import service
from backend.preferences.freeze import freeze_labels
from backend.preferences.schemas import NewLabel, NewPair, NextPair
from backend.users.tables import UserRow
from trainer.artifacts import Run, RunFolder, folder_hashes, new_folder, read_jsonl, write_jsonl
from trainer.spec import Message, Pair


@pytest.fixture
def platform(platform: Platform) -> Platform:
    """Every pair is for two people, and nobody is asked twice; what the defaults do has tests of its own."""
    changes = {"label_overlap": 1.0, "label_repeats": 0.0}
    return replace(platform, settings=platform.settings.model_copy(update=changes))


@pytest.fixture
def people(platform: Platform) -> list[UserRow]:
    users = [UserRow(name=name, role="labeller", created=time.time()) for name in ("ann", "ben")]
    with platform.database.write() as session:
        session.add_all(users)
    return users


def pair(number: int) -> NewPair:
    prompt = (Message(role="user", content=f"question {number}"),)
    return NewPair(prompt=prompt, a=f"good {number}", b=f"bad {number}")


def judge(platform: Platform, user: UserRow, shown: NextPair, choice: str) -> None:
    label = NewLabel(pair=shown.id, position=shown.position, choice=choice, seconds=1.5)
    service.add_label(platform, user, label)


def prefer_good(platform: Platform, user: UserRow) -> NextPair:
    shown = service.next_pair(platform, user)
    assert shown is not None
    judge(platform, user, shown, "left" if shown.left.startswith("good") else "right")
    return shown


def frozen(platform: Platform) -> list[Pair]:
    row = freeze_labels(platform)
    return list(read_jsonl(Path(row.folder) / "artifacts/labels/pairs.jsonl", Pair)) if row else []


def test_two_people_see_different_pairs_and_each_the_same_until_they_judge(
    platform: Platform, people: list[UserRow]
) -> None:
    ann, ben = people
    for number in range(2):
        queue.add_pair(platform, pair(number))
    first, other = service.next_pair(platform, ann), service.next_pair(platform, ben)
    assert first is not None
    assert other is not None
    assert first.id != other.id
    assert service.next_pair(platform, ann) == first
    judge(platform, ann, first, "skip")
    assert service.next_pair(platform, ann) is None, "the other one is before Ben"
    judge(platform, ben, other, "tie")
    second = service.next_pair(platform, ann)
    assert second is not None
    assert (second.id, second.remaining) == (other.id, 1)


def test_positions_are_drawn_and_a_wrong_one_is_refused(platform: Platform, people: list[UserRow]) -> None:
    for number in range(40):
        queue.add_pair(platform, pair(number))
    seen = [prefer_good(platform, people[0]).position for _ in range(40)]
    # Of 40 fair draws all alike happen once in 5e11.
    assert set(seen) == {"ab", "ba"}
    summary = service.summary(platform, people[0])
    assert (summary.pairs, summary.labelled, summary.remaining, summary.mine) == (40, 40, 0, 40)
    assert summary.left_share == seen.count("ab") / 40
    shown = service.next_pair(platform, people[1])
    assert shown is not None
    swapped = "ba" if shown.position == "ab" else "ab"
    with pytest.raises(Conflict):
        service.add_label(platform, people[1], NewLabel(pair=shown.id, position=swapped, choice="left"))


def test_only_the_latest_preference_of_each_person_is_frozen(platform: Platform, people: list[UserRow]) -> None:
    ann, ben = people
    for number in range(5):
        queue.add_pair(platform, pair(number))
    assert freeze_labels(platform) is None
    prefer_good(platform, ann)
    for choice in ("tie", "both_bad", "skip"):
        shown = service.next_pair(platform, ann)
        assert shown is not None
        judge(platform, ann, shown, choice)
    assert sorted((found.preference, found.origin) for found in frozen(platform)) == [(0.5, "label"), (1.0, "label")]
    [preferred] = [found for found in frozen(platform) if found.preference == 1]
    assert (preferred.chosen[:4], preferred.rejected[:3]) == ("good", "bad")
    prefer_good(platform, ben)
    [both] = [found for found in frozen(platform) if found.preference == 1]
    assert (both.id, [vote["a"] for vote in both.meta["votes"]]) == (preferred.id, [1, 1])
    judged = service.summary(platform, ann).mine
    service.add_label(platform, ann, NewLabel(pair=both.id, position="ab", choice="right"))
    assert service.summary(platform, ann).mine == judged
    [split] = [found for found in frozen(platform) if found.id == both.id]
    assert split.preference == 0.5, "one vote for each answer"


def test_a_frozen_dataset_never_changes(platform: Platform, people: list[UserRow]) -> None:
    for number in range(2):
        queue.add_pair(platform, pair(number))
    prefer_good(platform, people[0])
    first, same = freeze_labels(platform), freeze_labels(platform)
    assert first is not None
    assert same is not None
    assert first.id == same.id
    hashes = folder_hashes(Path(first.folder) / "artifacts/labels")
    prefer_good(platform, people[0])
    later = freeze_labels(platform)
    assert later is not None
    assert later.id != first.id
    assert folder_hashes(Path(first.folder) / "artifacts/labels") == hashes


def test_a_dpo_job_gets_the_labels_and_another_key_with_them(
    platform: Platform, people: list[UserRow], tmp_path: Path
) -> None:
    spec = {"kind": "dpo", "name": "dpo", "inputs": {"checkpoint": "sft", "pairs": "reward"}, "steps": 1}
    row = JobRow(id="x", name="dpo", kind="dpo", spec=spec | {"optimizer": {"lr": 0.1}}, sources={}, run_folder="")
    queue.add_pair(platform, pair(1))
    without = bind(platform, row)
    assert "labels" not in without.inputs
    prefer_good(platform, people[0])
    bound = bind(platform, row)
    assert bound.dataset_id is not None
    assert bound.inputs == {"labels": str(platform.settings.home / "datasets" / bound.dataset_id)}
    assert bound.reuse_key != without.reuse_key
    assert RunFolder(bound.inputs["labels"]).artifact("labels").is_dir()


def test_pairs_are_imported_once(platform: Platform, tmp_path: Path) -> None:
    prompt = (Message(role="user", content="q"),)
    pairs = [Pair(id=str(n), prompt=prompt, chosen=f"c{n}", rejected="r", origin="policy_error") for n in range(3)]
    text = "\n".join(json.dumps(found.model_dump()) for found in pairs)
    assert queue.add_pairs(platform, queue.parse_pairs(text)).imported == 3
    run = Run(RunFolder(tmp_path / "reward"))
    job = JobRow(
        id="reward", name="r", kind="reward", spec={}, sources={}, run_folder=str(run.folder.path), created=0.0
    )
    with platform.database.write() as session:
        session.add(job)
    with pytest.raises(Invalid, match="left no pairs"):
        queue.pairs_of_job(platform, "reward", 10)
    with new_folder(run.folder.artifacts / "pairs") as folder:
        write_jsonl(folder / "pairs.jsonl", itertools.chain(pairs, [pairs[0].model_copy(update={"chosen": "new"})]))
    assert len(queue.pairs_of_job(platform, "reward", 2)) == 2
    found = queue.add_pairs(platform, queue.pairs_of_job(platform, "reward", 10))
    assert (found.imported, found.known) == (1, 3)

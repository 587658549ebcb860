import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from backend.errors import Conflict, Invalid, NotFound
from backend.jobs.advance import advance
from backend.jobs.binding import bind
from backend.jobs.service import get_job, parse_spec, submit
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.reviews import counting, service
from backend.reviews.freeze import freeze_reviewed
from backend.reviews.schemas import NewReview, Place, ReviewItem
from backend.reviews.tables import ReviewRow
from backend.users.tables import UserRow
from tests.backend.conftest import ROOT, Api
from trainer.artifacts import Run, RunFolder, folder_hashes, new_folder, write_jsonl
from trainer.data.synthesis import SPLITS, Generator
from trainer.spec import Problem

COUNTS = {"train": 6, "rl": 2, "heldout": 3}
PLACE = Place(job="made")
CHECKS = "check-problem" in (ROOT / "trainer/__main__.py").read_text()


@pytest.fixture
def people(platform: Platform) -> list[UserRow]:
    users = [UserRow(name=name, role="labeller", created=time.time()) for name in ("ann", "ben")]
    with platform.database.write() as session:
        session.add_all(users)
    return users


@pytest.fixture
def problems(platform: Platform, tmp_path: Path) -> dict[str, list[Problem]]:
    """A synthesize job 'made' that ended, with real problems."""
    run = Run(RunFolder(tmp_path / "made"))
    generator = Generator(("addition",), (1, 2), seed=1)
    found = {split: list(generator.problems(split, COUNTS[split])) for split in SPLITS}
    with new_folder(run.folder.artifacts / "problems") as folder:
        for split, made in found.items():
            write_jsonl(folder / f"{split}.jsonl", made)
    run.finish("succeeded")
    job = JobRow(
        id="made", name="synthesize", kind="synthesize", spec={}, sources={}, run_folder=str(run.folder.path),
        created=1.0, finished=2.0, state="succeeded",
    )  # fmt: skip
    with platform.database.write() as session:
        session.add(job)
    return found


def shown(platform: Platform, user: UserRow, place: Place = PLACE) -> ReviewItem:
    item = service.next_item(platform, user, place)
    assert item is not None
    return item


def decide(platform: Platform, user: UserRow, item: ReviewItem, decision: str, **fields: Any) -> ReviewRow:
    reason = "unclear" if decision == "reject" else ""
    review = {"job": item.job, "split": item.split, "number": item.number, "decision": decision, "reason": reason}
    return service.decide(platform, user, NewReview.model_validate(review | {"seconds": 2.0} | fields))


def frozen(platform: Platform, include: Any) -> dict[str, list[dict[str, Any]]]:
    folder = Path(freeze_reviewed(platform, "made", include).folder) / "artifacts/problems"
    return {split: [json.loads(line) for line in (folder / f"{split}.jsonl").open()] for split in SPLITS}


def test_nobody_is_shown_what_somebody_else_holds(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    ann, ben = people
    first, other = shown(platform, ann), shown(platform, ben)
    assert (first.number, other.number) == (0, 1)
    assert shown(platform, ann) == first
    assert Problem.model_validate(first.problem) == problems["train"][0]
    with pytest.raises(Conflict, match="no longer yours"):
        decide(platform, ben, first, "accept")
    decide(platform, ann, first, "accept")
    with pytest.raises(Conflict, match="no longer yours"):
        decide(platform, ann, first, "accept")
    assert shown(platform, ann).number == 2
    assert shown(platform, ann).remaining == COUNTS["train"] - 1


def test_many_at_once_get_different_problems(platform: Platform, problems: dict[str, list[Problem]]) -> None:
    users = [UserRow(name=str(n), role="labeller", created=0.0) for n in range(COUNTS["train"])]
    with platform.database.write() as session:
        session.add_all(users)
    with ThreadPoolExecutor(len(users)) as pool:
        numbers = pool.map(lambda user: shown(platform, user).number, users)
    assert sorted(numbers) == list(range(COUNTS["train"]))
    late = UserRow(name="late", role="labeller", created=0.0)
    with platform.database.write() as session:
        session.add(late)
    assert service.next_item(platform, late, PLACE) is None


def test_a_lease_that_ran_out_goes_to_the_next_person(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, ben = people
    monkeypatch.setattr(service, "LEASE_SECONDS", -1.0)
    held = shown(platform, ann)
    monkeypatch.undo()
    assert shown(platform, ben).number == held.number
    with pytest.raises(Conflict, match="no longer yours"):
        decide(platform, ann, held, "accept")


def test_a_skipped_problem_is_left_to_others(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    ann, ben = people
    decide(platform, ann, shown(platform, ann), "skip")
    assert shown(platform, ann).number == 1
    assert shown(platform, ben).number == 0
    with pytest.raises(Conflict, match="stays with them"):
        service.undo(platform, ann, PLACE)
    decide(platform, ben, shown(platform, ben), "accept")
    with pytest.raises(Conflict, match="stays with them"):
        service.undo(platform, ann, PLACE)


def test_undo_goes_back_decision_by_decision(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    ann, ben = people
    for decision in ("accept", "reject", "skip"):
        decide(platform, ann, shown(platform, ann), decision)
    assert counting.summary(platform, ann, "made").mine.reject == 1
    for number in (2, 1):
        assert service.undo(platform, ann, PLACE).number == number
        assert shown(platform, ben).number == 3
    assert shown(platform, ann).number == 1
    counts = counting.summary(platform, ann, "made")
    assert (counts.mine.accept, counts.mine.reject, counts.reasons) == (1, 0, {})
    service.undo(platform, ann, PLACE)
    with pytest.raises(Conflict, match="nothing to undo"):
        service.undo(platform, ann, PLACE)


def test_counts_add_up_by_person_and_family(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    ann, ben = people
    for user, decision in ((ann, "accept"), (ben, "reject"), (ann, "skip"), (ann, "accept")):
        decide(platform, user, shown(platform, user), decision)
    found = counting.summary(platform, ann, "made")
    assert {name: (tally.accept, tally.reject) for name, tally in found.reviewers.items()} == {
        "ann": (2, 0),
        "ben": (0, 1),
    }
    assert found.mine.seconds == 4.0
    assert sum(t.accept + t.edit + t.reject for t in found.families.values()) == found.splits["train"].decided == 3
    assert {split: entry.total for split, entry in found.splits.items()} == COUNTS
    assert found.reasons == {"unclear": 1}


@pytest.mark.parametrize("include", ["accepted", "accepted_or_verified"])
def test_a_frozen_dataset_holds_what_was_accepted_and_nothing_rejected(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]], include: str
) -> None:
    ann = people[0]
    with pytest.raises(Invalid, match="no problem of split 'train'"):
        freeze_reviewed(platform, "made", "accepted")
    decisions = ("accept", "reject", "skip", "accept")
    for decision in decisions:
        decide(platform, ann, shown(platform, ann), decision)
    decide(platform, ann, shown(platform, ann, Place(job="made", split="heldout")), "reject")
    kept = frozen(platform, include)
    ids = {split: [problem.id for problem in made] for split, made in problems.items()}
    train, heldout = ids["train"], ids["heldout"]
    expected = {"train": [train[0], train[3]], "rl": [], "heldout": []}
    if include == "accepted_or_verified":
        expected = {"train": [train[0], *train[2:]], "rl": ids["rl"], "heldout": heldout[1:]}
    assert {split: [problem["id"] for problem in made] for split, made in kept.items()} == expected


def test_the_same_decisions_give_the_same_dataset_and_others_another(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    decide(platform, people[0], shown(platform, people[0]), "accept")
    first, same = (freeze_reviewed(platform, "made", "accepted") for _ in range(2))
    assert (first.id, first.created) == (same.id, same.created)
    hashes = folder_hashes(Path(first.folder) / "artifacts/problems")
    decide(platform, people[0], shown(platform, people[0]), "accept")
    assert freeze_reviewed(platform, "made", "accepted").id != first.id
    assert folder_hashes(Path(first.folder) / "artifacts/problems") == hashes
    assert len(list(Path(first.folder).parent.iterdir())) == 2
    counts = freeze_reviewed(platform, "made", "accepted_or_verified").about["counts"]
    assert sum(counts.values()) == sum(COUNTS.values())


def test_a_prompt_that_an_edit_repeats_stands_in_the_dataset_once(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    twin = problems["heldout"][1].model_dump(mode="json")
    for number in (2, 4):
        edit = ReviewRow(
            job_id="made", split="train", number=number, user_id=people[0].id, decision="edit", family="addition",
            reason="", problem=twin, seconds=0.0, created=0.0,
        )  # fmt: skip
        with platform.database.write() as session:
            session.add(edit)
    kept = frozen(platform, "accepted_or_verified")
    ids = [problem["id"] for problem in itertools.chain(*kept.values())]
    assert len(ids) == len(set(ids)) == sum(COUNTS.values()) - 2
    assert kept["train"][2] == twin
    assert freeze_reviewed(platform, "made", "accepted").about["counts"]["repeated"] == 2


def test_what_says_it_is_not_verified_waits_for_a_person(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    path = RunFolder(get_job(platform, "made").run_folder).artifacts / "problems/train.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = json.dumps(json.loads(lines[1]) | {"verified": False}) + "\n"
    path.write_text("".join(lines))
    assert len(frozen(platform, "accepted_or_verified")["train"]) == COUNTS["train"] - 1


@pytest.fixture
def tokenize(platform: Platform, problems: dict[str, list[Problem]], tmp_path: Path) -> dict[str, Any]:
    clean = JobRow(
        id="docs", name="clean", kind="clean", spec={}, sources={}, run_folder=str(tmp_path), created=1.0,
        state="succeeded",
    )  # fmt: skip
    with platform.database.write() as session:
        session.add(clean)
    return {"kind": "tokenize", "name": "tokenize", "vocab_size": 400, "inputs": {"documents": "run:docs"}}


def test_a_job_reads_a_frozen_dataset_and_its_key_is_that_of_the_content(
    platform: Platform, people: list[UserRow], tokenize: dict[str, Any]
) -> None:
    def bound(source: str) -> Any:
        inputs = tokenize["inputs"] | {"problems": source}
        [row] = submit(platform, [parse_spec(tokenize | {"inputs": inputs})], pipeline=None, reuse=False)
        assert row.state == "queued"
        return bind(platform, row)

    dataset = freeze_reviewed(platform, "made", "accepted_or_verified")
    found = bound(f"dataset:{dataset.id}")
    assert found.inputs["problems"] == dataset.folder
    assert RunFolder(found.inputs["problems"]).artifact("problems").is_dir()
    # Nothing was taken out: the same content, so the same key as reading the job itself.
    assert found.reuse_key == bound("run:made").reuse_key
    decide(platform, people[0], shown(platform, people[0]), "reject")
    other = freeze_reviewed(platform, "made", "accepted_or_verified")
    assert bound(f"dataset:{other.id}").reuse_key != found.reuse_key


@pytest.mark.parametrize(("role", "source"), [("problems", "dataset:nothing"), ("documents", "dataset:reviewed")])
def test_a_dataset_that_does_not_fit_is_refused(
    platform: Platform, tokenize: dict[str, Any], role: str, source: str
) -> None:
    if source == "dataset:reviewed":
        source = f"dataset:{freeze_reviewed(platform, 'made', 'accepted_or_verified').id}"
    inputs = {"documents": "run:docs", "problems": "run:made", role: source}
    with pytest.raises(Invalid, match=f"input '{role}'"):
        submit(platform, [parse_spec(tokenize | {"inputs": inputs})], pipeline=None, reuse=False)


def test_a_job_whose_dataset_is_gone_fails_with_a_sentence(platform: Platform, tokenize: dict[str, Any]) -> None:
    dataset = freeze_reviewed(platform, "made", "accepted_or_verified")
    Path(dataset.folder).rename(Path(dataset.folder).with_name("elsewhere"))
    inputs = tokenize["inputs"] | {"problems": f"dataset:{dataset.id}"}
    [row] = submit(platform, [parse_spec(tokenize | {"inputs": inputs})], pipeline=None, reuse=False)
    advance(platform)
    assert (
        get_job(platform, row.id).error == "input 'problems': the folder of the frozen dataset is gone; make it again"
    )


@pytest.mark.parametrize(
    "wrong",
    [{"decision": "reject"}, {"decision": "accept", "reason": "because"}, {"decision": "edit"}, {"decision": "maybe"}],
)
def test_a_decision_must_fit(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        NewReview.model_validate({"job": "made", "number": 0} | wrong)


def test_there_is_no_queue_but_of_problems_that_are_there(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]], tokenize: dict[str, Any]
) -> None:
    assert [queue.job for queue in service.find_queues(platform)] == ["made"]
    with pytest.raises(Invalid, match="left no problems"):
        service.next_item(platform, people[0], Place(job="docs"))
    with pytest.raises(NotFound, match="no problem 99"):
        service.decide(platform, people[0], NewReview(job="made", number=99, decision="accept"))


@pytest.mark.skipif(not CHECKS, reason="this trainer has no command check-problem")
def test_an_edit_is_checked_and_named_by_its_prompt(
    platform: Platform, people: list[UserRow], problems: dict[str, list[Problem]]
) -> None:
    item = shown(platform, people[0])
    first = Problem.model_validate(item.problem)
    wrong = first.model_copy(update={"answer": str(int(first.answer) + 1)})
    with pytest.raises(Invalid, match="not right"):
        decide(platform, people[0], item, "edit", problem=wrong)
    better = first.model_copy(update={"distractors": first.distractors[:1]})
    decide(platform, people[0], item, "edit", problem=better)
    assert frozen(platform, "accepted")["train"] == [better.model_dump(mode="json")]


def test_a_labeller_may_review_but_not_freeze(api: Api) -> None:
    user = api.post("/users", {"name": "rater", "role": "labeller"})
    headers = {"Authorization": f"Bearer {user['key']}"}
    assert api.client.get("/reviews/queues", headers=headers).json() == []
    assert api.client.post("/datasets/reviewed", json={"job": "made"}, headers=headers).status_code == 403
    assert "no job" in api.client.get("/reviews/next", params={"job": "made"}, headers=headers).text

"""A clean job in shards: its parts are jobs like any other, and stand and fall with it."""

from pathlib import Path

import pytest

from backend.errors import Conflict
from backend.jobs import service
from backend.jobs.family import family_of
from backend.jobs.tables import JobRow
from backend.platform import Platform
from tests.backend.conftest import chain
from tests.backend.test_jobs import finish, states, submit, take
from trainer.spec import CleanSpec, Recipe

CLEAN = {"kind": "clean", "name": "clean", "shards": 2}


def submit_family(platform: Platform) -> tuple[JobRow, list[JobRow]]:
    """The job and its parts: two shards and two buckets."""
    [row] = submit(platform, CLEAN)
    return row, service.find_jobs(platform, parent=row.id)


def end(platform: Platform, row: JobRow, state: str) -> None:
    Path(row.run_folder).mkdir(parents=True)
    finish(platform, take(platform, row.id), state)


def test_most_jobs_are_alone_and_a_clean_job_in_shards_is_not() -> None:
    one = CleanSpec(name="clean")
    assert family_of(one) == [one]
    *parts, job = family_of(CleanSpec(name="texts", shards=3, seed=5))
    assert [part.kind for part in parts] == ["clean_shard"] * 3 + ["clean_bucket"] * 3
    assert len({part.name for part in parts}) == 6
    assert set(job.inputs.values()) == {part.name for part in parts}
    assert family_of(job) == [job], "it has its parts"
    long = "a" * 40
    assert all(len(part.name) <= 40 for part in family_of(CleanSpec(name=long, shards=2)))


def test_shards_run_at_once_then_buckets_then_the_job(platform: Platform) -> None:
    row, parts = submit_family(platform)
    assert states(platform, [row, *parts]) == ["waiting", "queued", "queued", "waiting", "waiting"]
    end(platform, parts[0], "succeeded")
    assert states(platform, parts) == ["succeeded", "queued", "waiting", "waiting"]
    end(platform, parts[1], "succeeded")
    assert states(platform, [row, *parts[2:]]) == ["waiting", "queued", "queued"]
    end(platform, parts[2], "succeeded")
    end(platform, parts[3], "succeeded")
    assert states(platform, [row]) == ["queued"]


def test_in_a_pipeline_later_jobs_read_from_the_job_itself(platform: Platform) -> None:
    recipe = chain()
    recipe["jobs"][0] |= {"shards": 2}
    clean, problems, tokenize = service.submit(platform, Recipe.model_validate(recipe).jobs, "chain", reuse=False)
    parts = service.find_jobs(platform, parent=clean.id)
    assert [row.position for row in (*parts, clean, problems, tokenize)] == list(range(7))
    assert tokenize.sources["documents"] == clean.id
    assert {part.pipeline_id for part in parts} == {clean.pipeline_id}


def test_cancelling_it_cancels_its_parts_and_a_retry_brings_back_what_did_not_succeed(platform: Platform) -> None:
    row, parts = submit_family(platform)
    end(platform, parts[0], "succeeded")
    mine = take(platform, parts[1].id)
    service.cancel(platform, [row.id])
    assert states(platform, [row, *parts]) == ["cancelled", "succeeded", "running", "cancelled", "cancelled"]
    with pytest.raises(Conflict, match="'clean-shard-001', a part of 'clean', is still stopping"):
        service.retry(platform, row.id)
    finish(platform, mine, "cancelled")
    service.retry(platform, row.id)
    assert states(platform, [row, *parts]) == ["waiting", "succeeded", "queued", "waiting", "waiting"]


@pytest.mark.parametrize("retried", ["part", "job"])
def test_a_failed_part_is_named_and_a_retry_of_either_goes_on(platform: Platform, retried: str) -> None:
    recipe = chain()
    recipe["jobs"][0] |= {"shards": 2}
    row, _, tokenize = service.submit(platform, Recipe.model_validate(recipe).jobs, "chain", reuse=False)
    parts = service.find_jobs(platform, parent=row.id)
    end(platform, parts[0], "failed")
    assert states(platform, [row, *parts]) == ["failed", "failed", "queued", "cancelled", "cancelled"]
    assert "job 'clean-shard-000' failed" in (service.get_job(platform, row.id).error or "")
    assert states(platform, [tokenize]) == ["cancelled"]
    service.retry(platform, parts[0].id if retried == "part" else row.id)
    assert states(platform, [row, *parts]) == ["waiting", "queued", "queued", "waiting", "waiting"]
    assert states(platform, [tokenize]) == ["waiting"]


def test_parts_of_an_equal_job_of_another_name_are_reused(platform: Platform) -> None:
    keys = []
    for name in ("clean", "other"):
        [row] = submit(platform, CLEAN | {"name": name})
        keys.append([part.reuse_key for part in service.find_jobs(platform, parent=row.id)][:2])
    assert keys[0] == keys[1]
    assert None not in keys[0]
    assert keys[0][0] != keys[0][1]

"""Laws of the rows, on SQLite and PostgreSQL: who gets a job, who may write to it, what follows from its end."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import update

from backend.db import Base
from backend.errors import Conflict
from backend.jobs import service
from backend.jobs.advance import advance
from backend.jobs.claims import MAX_RESUMES, Claim, LeaseLost, after_loss, claim, finish_values, update_mine
from backend.jobs.tables import JobRow
from backend.launcher import run_job
from backend.platform import Platform
from backend.reaper import forget_untaken, requeue_lost
from backend.schema import migrate
from tests.backend.conftest import chain, synthesize
from trainer.spec import Recipe


def submit(platform: Platform, *bodies: dict) -> list[JobRow]:
    return service.submit(platform, [service.parse_spec(body) for body in bodies], None, reuse=False)


def submit_chain(platform: Platform) -> list[JobRow]:
    return service.submit(platform, Recipe.model_validate(chain()).jobs, "chain", reuse=False)


def finish(platform: Platform, mine: Claim | None, state: str) -> None:
    assert mine is not None
    with platform.database.write() as session:
        update_mine(session, mine, **finish_values(state, time.time()))
    advance(platform)


def take(platform: Platform, job_id: str, lease: float = 60.0) -> Claim | None:
    return claim(platform.database, job_id, "worker", time.time(), lease)


def states(platform: Platform, rows: Sequence[JobRow]) -> list[str]:
    return [service.get_job(platform, row.id).state for row in rows]


def test_the_revisions_make_exactly_the_tables(platform: Platform) -> None:
    migrate(platform.database)
    with platform.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_of_many_workers_exactly_one_gets_a_job(platform: Platform) -> None:
    for _ in range(5):
        [row] = submit(platform, synthesize())
        with ThreadPoolExecutor(6) as pool:
            claims = list(pool.map(lambda _, job_id=row.id: take(platform, job_id), range(6)))
        assert [found for found in claims if found] == [Claim(row.id, 1)]


def test_a_message_for_a_job_that_ended_finds_nothing_to_do(platform: Platform) -> None:
    [row] = submit(platform, synthesize())
    finish(platform, take(platform, row.id), "succeeded")
    assert take(platform, row.id) is None
    assert take(platform, "unknown") is None


def test_ready_jobs_of_a_pipeline_run_in_recipe_order_whatever_message_comes_first(platform: Platform) -> None:
    clean, problems, tokenize = submit_chain(platform)
    first = take(platform, problems.id)
    assert first == Claim(clean.id, 1)
    finish(platform, first, "succeeded")
    second = take(platform, clean.id)
    assert second == Claim(problems.id, 1)
    assert take(platform, tokenize.id) is None


def test_an_old_attempt_changes_nothing(platform: Platform) -> None:
    [row] = submit(platform, synthesize())
    old = take(platform, row.id, lease=-1.0)
    assert old is not None
    assert requeue_lost(platform) == 1
    new = take(platform, row.id)
    assert new == Claim(row.id, 2)
    with pytest.raises(LeaseLost), platform.database.write() as session:
        update_mine(session, old, message="late")
    assert service.get_job(platform, row.id).message != "late"


def test_only_an_expired_lease_is_taken_away(platform: Platform) -> None:
    [row] = submit(platform, synthesize())
    take(platform, row.id, lease=60.0)
    assert requeue_lost(platform) == 0
    assert states(platform, [row]) == ["running"]


def test_resumes_without_progress_are_bounded_and_progress_resets_them() -> None:
    row = JobRow(resumes=0, resumed_step=-1, cancel_requested=False)
    for step in (10, *[10] * MAX_RESUMES):
        values = after_loss(row, step, "killed", 0.0)
        row.resumes, row.resumed_step = values.get("resumes", row.resumes), values.get("resumed_step", 10)
    assert values["state"] == "failed"
    assert after_loss(row, 11, "killed", 0.0)["state"] == "queued"
    row.cancel_requested = True
    cancelled = after_loss(row, 11, "killed", 0.0)
    assert (cancelled["state"], cancelled["message"]) == ("cancelled", "cancelled on request")


def test_a_failure_cancels_dependents_and_a_retry_brings_them_back(platform: Platform) -> None:
    clean, problems, tokenize = rows = submit_chain(platform)
    assert states(platform, rows) == ["queued", "queued", "waiting"]
    finish(platform, take(platform, clean.id), "failed")
    assert states(platform, rows) == ["failed", "queued", "cancelled"]
    assert "'clean' failed" in service.get_job(platform, tokenize.id).message
    service.retry(platform, clean.id)
    assert states(platform, rows) == ["queued", "queued", "waiting"]
    assert problems.id not in {row.id for row in service.find_jobs(platform, state="waiting")}


def test_a_job_behind_a_failed_one_is_not_retried_alone(platform: Platform) -> None:
    clean, _, tokenize = rows = submit_chain(platform)
    finish(platform, take(platform, clean.id), "failed")
    with pytest.raises(Conflict, match="'clean', which failed; retry 'clean'"):
        service.retry(platform, tokenize.id)
    assert states(platform, rows) == ["failed", "queued", "cancelled"]


def test_a_job_whose_run_folder_cannot_be_written_fails_at_once_and_says_so(platform: Platform) -> None:
    [row] = submit(platform, synthesize())
    Path(row.run_folder).touch()
    mine = take(platform, row.id)
    assert mine is not None
    run_job(platform, mine, Event())
    failed = service.get_job(platform, row.id)
    assert failed.state == "failed"
    assert row.run_folder in (failed.error or "")


def test_cancelling_stops_what_waits_at_once_and_asks_what_runs(platform: Platform) -> None:
    clean, problems, tokenize = rows = submit_chain(platform)
    mine = take(platform, clean.id)
    service.cancel(platform, [row.id for row in rows])
    assert states(platform, rows) == ["running", "cancelled", "cancelled"]
    assert service.get_job(platform, tokenize.id).message == "cancelled on request"
    assert service.get_job(platform, clean.id).cancel_requested
    finish(platform, mine, "succeeded")
    service.cancel(platform, [clean.id])
    assert states(platform, [clean]) == ["succeeded"]
    assert problems.pipeline_id == tokenize.pipeline_id


def test_a_queued_job_is_sent_again_once_the_broker_forgot_it(platform: Platform) -> None:
    [row] = submit(platform, synthesize())
    with platform.database.write() as session:
        session.execute(update(JobRow).values(sent=time.time() - 3600))
    assert forget_untaken(platform) == 0, "its message is still there: a worker is merely busy"
    platform.messages._redis.delete(platform.settings.queue)
    assert forget_untaken(platform) == 1
    advance(platform)
    assert platform.messages.length() == 1
    assert states(platform, [row]) == ["queued"]


def test_folders_are_kept_absolute(platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path)
    [row] = submit(platform, {"kind": "clean", "name": "clean", "folders": ["texts"]})
    assert row.spec["folders"] == [str(tmp_path / "texts")]

"""A job's life with a real broker, a real Celery worker process and a real stage process."""

import os
import signal
from pathlib import Path

import psutil
import redis

from tests.backend.conftest import (
    Api,
    chain,
    eventually,
    make_settings,
    new_postgres_database,
    process,
    running_api,
    synthesize,
)


def stage_process(job: dict) -> psutil.Process:
    """The process that runs a job."""

    def look() -> psutil.Process | None:
        found = [p for p in psutil.process_iter(["cmdline"]) if job["run_folder"] in (p.info["cmdline"] or [])]
        running = [p for p in found if "tiny_stage.py" in " ".join(p.info["cmdline"][:2])]
        return running[0] if running else None

    return eventually(look)


def go(job: dict) -> None:
    (Path(job["run_folder"]) / "go").touch()


def steps(api: Api, job: dict) -> list[int]:
    return [row["step"] for row in api.get(f"/jobs/{job['id']}/metrics")["rows"]]


def test_a_job_succeeds_and_shows_what_it_left(house: Api) -> None:
    job = house.post("/jobs", synthesize())
    done = house.wait_for(job["id"], "succeeded", "failed")
    assert (done["state"], done["attempt"], done["step"], done["total_steps"]) == ("succeeded", 1, 3, 3)
    rows = house.get(f"/jobs/{job['id']}/metrics")["rows"]
    assert [row["values"] for row in rows] == [{"loss": 1 / step, "broken": None} for step in (1, 2, 3)]
    assert "starting at step 0" in house.get(f"/jobs/{job['id']}/log")["text"]
    assert house.get(f"/jobs/{job['id']}/result") == {"steps": 3}
    assert {"path": "problems/train.jsonl", "bytes": 28} in house.get(f"/jobs/{job['id']}/artifacts")
    found = house.get(f"/jobs/{job['id']}/rows", artifact="problems/train.jsonl", search="1", offset=1)
    assert found == {"rows": [{"n": 12}], "numbers": [2], "total": 3, "next": None}
    assert house.client.get(f"/jobs/{job['id']}/artifacts/../job.json").status_code == 404


def test_a_failed_job_says_why_and_cancels_what_waits_for_it(house: Api) -> None:
    pipeline = house.post("/pipelines", chain(families=["fail"]))
    ended = eventually(lambda: (p := house.get(f"/pipelines/{pipeline['id']}"))["state"] == "failed" and p)
    clean, failed, tokenize = ended["jobs"]
    assert (clean["state"], failed["state"], failed["error"]) == ("succeeded", "failed", "asked to fail")
    assert (tokenize["state"], tokenize["message"]) == ("cancelled", "cancelled because job 'synthesize' failed")


def test_a_killed_stage_resumes_and_its_metrics_are_those_of_an_undisturbed_run(house: Api) -> None:
    job = house.post("/jobs", synthesize(train=6, rl=4))
    house.wait_for_step(job["id"], 4)
    stage_process(job).kill()
    second = eventually(lambda: (j := house.get(f"/jobs/{job['id']}"))["attempt"] == 2 and j)
    go(second)
    house.wait_for(job["id"], "succeeded")
    assert steps(house, job) == [1, 2, 3, 4, 5, 6]
    assert "starting at step 3" in house.get(f"/jobs/{job['id']}/log")["text"]


def test_a_stage_that_keeps_dying_at_the_same_place_fails_in_the_end(house: Api) -> None:
    job = house.post("/jobs", synthesize(train=6, rl=2))
    for attempt in range(1, 7):
        eventually(lambda a=attempt: (j := house.get(f"/jobs/{job['id']}"))["attempt"] == a and j["step"] >= 2)
        stage_process(job).kill()
    failed = house.wait_for(job["id"], "failed", "succeeded")
    assert "SIGKILL" in failed["error"]
    assert "5 times" in failed["error"]


def test_cancel_stops_with_a_snapshot_and_retry_goes_on_from_it(house: Api) -> None:
    job = house.post("/jobs", synthesize(train=5, rl=3))
    house.wait_for_step(job["id"], 3)
    house.post(f"/jobs/{job['id']}/cancel")
    house.wait_for(job["id"], "cancelled")
    go(job)
    house.post(f"/jobs/{job['id']}/retry")
    house.wait_for(job["id"], "succeeded")
    assert "starting at step 2" in house.get(f"/jobs/{job['id']}/log")["text"]


def test_an_unchanged_pipeline_is_reused_and_a_changed_job_is_not(house: Api) -> None:
    first = house.post("/pipelines", chain(seed=7))
    eventually(lambda: house.get(f"/pipelines/{first['id']}")["state"] == "succeeded")
    again = house.post("/pipelines", chain(seed=7))
    assert again["state"] == "succeeded"
    assert [job["run_folder"] for job in again["jobs"][1:]] == [
        job["run_folder"] for job in house.get(f"/pipelines/{first['id']}")["jobs"][1:]
    ]
    assert steps(house, again["jobs"][1]) == [1, 2, 3]
    changed = house.post("/pipelines", chain(seed=8))
    assert [job["reused_from"] is not None for job in changed["jobs"][:2]] == [True, False]
    fresh = house.post("/pipelines", chain(seed=7) | {"reuse": False})
    assert not any(job["reused_from"] for job in fresh["jobs"])
    for pipeline in (changed, fresh):
        eventually(lambda p=pipeline: house.get(f"/pipelines/{p['id']}")["state"] == "succeeded")


def test_a_flushed_broker_loses_no_job(house: Api) -> None:
    running = house.post("/jobs", synthesize(train=2, rl=1))
    house.wait_for_step(running["id"], 1)
    behind = [house.post("/jobs", synthesize())["id"] for _ in range(3)]
    redis.Redis.from_url(house.settings.redis_url).flushall()
    go(running)
    for job_id in (running["id"], *behind, house.post("/jobs", synthesize())["id"]):
        assert house.wait_for(job_id, "succeeded", "failed")["attempt"] == 1


def test_a_job_runs_on_postgresql(tmp_path: Path, broker_port: int, postgres: str) -> None:
    settings = make_settings(tmp_path / "home", broker_port, database_url=new_postgres_database(postgres))
    with running_api(settings) as api, process("backend.worker", settings):
        job = api.post("/jobs", synthesize(train=4, rl=3))
        api.wait_for_step(job["id"], 3)
        stage_process(job).kill()
        go(job)
        assert api.wait_for(job["id"], "succeeded", "failed")["attempt"] == 2
        assert steps(api, job) == [1, 2, 3, 4]


def test_a_killed_worker_takes_its_stage_along_and_the_next_one_resumes(tmp_path: Path, broker_port: int) -> None:
    settings = make_settings(tmp_path / "home", broker_port)
    with running_api(settings) as api:
        with process("backend.worker", settings) as worker:
            job = api.post("/jobs", synthesize(train=4, rl=3))
            api.wait_for_step(job["id"], 3)
            stage = stage_process(job)
            worker.kill()
            worker.wait()
            eventually(lambda: not stage.is_running() or stage.status() == psutil.STATUS_ZOMBIE)
        api.wait_for(job["id"], "queued")
        # Whatever the broker knew is gone: the row is the truth.
        redis.Redis.from_url(settings.redis_url).delete(settings.queue)
        go(job)
        with process("backend.worker", settings):
            assert api.wait_for(job["id"], "succeeded")["attempt"] == 2
        assert steps(api, job) == [1, 2, 3, 4]


def test_a_stopped_worker_hands_its_job_back(tmp_path: Path, broker_port: int) -> None:
    settings = make_settings(tmp_path / "home", broker_port, lease_seconds=60.0)
    with running_api(settings) as api:
        with process("backend.worker", settings) as worker:
            job = api.post("/jobs", synthesize(train=4, rl=3))
            api.wait_for_step(job["id"], 3)
            os.kill(worker.pid, signal.SIGTERM)
            assert worker.wait(timeout=20) == 0
        handed_back = api.get(f"/jobs/{job['id']}")
    assert (handed_back["state"], handed_back["attempt"]) == ("queued", 1)

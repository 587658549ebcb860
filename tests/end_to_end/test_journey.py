"""The whole journey through the five real processes: once, once more for nothing, and with a kill in the middle."""

import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest

from scripts.api import JobState
from tests.end_to_end.conftest import House
from trainer.artifacts import RunFolder, folder_hashes
from trainer.spec import RECIPES, load_recipe

pytestmark = pytest.mark.end_to_end

WAIT_SECONDS = 240.0
KILL_AFTER = 60  # steps
STEPS = 400


def until(condition: Callable[[], bool]) -> None:
    """Poll another process, which offers no event to wait for."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_the_demo_reports_every_stage_and_what_it_printed(demo: dict[str, Any]) -> None:
    recipe = load_recipe("smoke")
    assert set(demo["jobs"]) == set(demo["seconds"]) == {job.name for job in recipe.jobs}
    stages = [row["stage"] for row in demo["evaluations"]]
    assert stages == ["after SFT", "after DPO", "after RLHF", "same minutes of further SFT"]
    assert all(row["result"]["n"] == 40 for row in demo["evaluations"])
    for text in ("after RLHF", "same minutes of further SFT", demo["question"]["question"], demo["curl"]):
        assert text in demo["printed"]


def test_the_admin_key_is_for_its_owner_only(house: House) -> None:
    assert (house.home / "admin_key").stat().st_mode & 0o777 == 0o600


def test_the_deployment_answers_with_the_admin_key_and_with_no_other(house: House, demo: dict[str, Any]) -> None:
    body = {"model": demo["deployment"]["model_name"], "prompt": "2 + 2", "max_tokens": 3}
    url = house.address("OCTAVO_SERVING_PORT") + "/v1/completions"
    answers = [
        httpx.post(url, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False)
        for key in (house.key, "wrong")
    ]
    assert [answer.status_code for answer in answers] == [200, 401]
    assert answers[0].json()["usage"]["completion_tokens"] > 0


def test_a_second_demo_reuses_everything(demo: dict[str, Any], second_demo: dict[str, Any]) -> None:
    assert second_demo["pipeline"] != demo["pipeline"]
    trained = {job.name for job in load_recipe("smoke").jobs if job.kind != "deploy"}
    assert second_demo["reused"] == {name: demo["jobs"][name] for name in trained}
    assert second_demo["weights"] == demo["weights"]


def test_a_killed_trainer_resumes_to_the_very_weights_of_an_undisturbed_twin(
    house: House, demo: dict[str, Any]
) -> None:
    undisturbed, killed = (submit_sft(house, demo) for _ in range(2))
    until(lambda: state(house, undisturbed).is_over)
    kill_in_the_middle(state(house, killed))
    until(lambda: state(house, killed).is_over)
    for job in (undisturbed, killed):
        assert state(house, job).state == "succeeded", state(house, job).error
    hashes = [weights(state(house, job)) for job in (undisturbed, killed)]
    assert hashes[0] == hashes[1]
    assert attempt(house, killed) == attempt(house, undisturbed) + 1


def test_a_failed_job_ends_the_demo_with_its_reason_and_its_log(house: House) -> None:
    recipe = house.home / "impossible.toml"
    smoke = (RECIPES / "smoke.toml").read_text()
    recipe.write_text(re.sub(r"families = \[[^\]]*\]", 'families = ["alchemy"]', smoke))
    done = house.command("scripts.demo", "--recipe", str(recipe))
    assert done.returncode == 1
    assert "job 'synthesize' failed" in done.stderr
    assert "alchemy" in done.stderr
    assert "log.txt" in done.stderr


def test_up_finds_the_platform_that_runs(house: House) -> None:
    up = house.command("scripts.supervise", "up")
    assert up.returncode == 0
    assert "already running" in up.stdout


def submit_sft(house: House, demo: dict[str, Any]) -> str:
    """A fine-tuning long enough to be killed in the middle, as a job of its own: those are never reused."""
    spec = next(job for job in load_recipe("smoke").jobs if job.name == "sft").model_dump(mode="json")
    spec |= {"steps": STEPS, "inputs": {"dataset": f"run:{demo['jobs']['tokenize']}"}}
    answer = httpx.post(_url(house, "/jobs"), json=spec, headers=_headers(house), trust_env=False)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def state(house: House, job: str) -> JobState:
    return JobState.model_validate(_job(house, job))


def attempt(house: House, job: str) -> int:
    return int(_job(house, job)["attempt"])


def kill_in_the_middle(job: JobState) -> None:
    """kill -9 the process that runs the job, once it is well beyond its first snapshots."""
    folder = RunFolder(job.run_folder)

    def is_far_enough() -> bool:
        status = folder.status()
        return status is not None and status.step >= KILL_AFTER

    until(is_far_enough)
    trainers = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] and process.info["cmdline"][-1] == job.run_folder
    ]
    assert len(trainers) == 1
    os.kill(trainers[0].pid, signal.SIGKILL)
    status = folder.status()
    assert status is not None
    assert status.step < STEPS, "the job was over before it was killed; give it more steps"


def weights(job: JobState) -> str:
    return folder_hashes(RunFolder(job.run_folder).checkpoint())["model.safetensors"]


def _job(house: House, job: str) -> dict[str, Any]:
    answer = httpx.get(_url(house, f"/jobs/{job}"), headers=_headers(house), trust_env=False)
    answer.raise_for_status()
    return dict(answer.json())


def _url(house: House, path: str) -> str:
    return house.address("OCTAVO_BACKEND_PORT") + path


def _headers(house: House) -> dict[str, str]:
    return {"Authorization": f"Bearer {house.key}"}

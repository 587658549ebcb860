"""A clean job over real workers: the same bytes for one, two and three of them, and when one is killed."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.backend.conftest import Api, eventually, make_settings, process, running_api
from trainer.artifacts import Run, RunFolder, folder_hashes
from trainer.spec import CleanSpec, Job
from trainer.stages import clean

TRAINER = (sys.executable, "-m", "trainer", "run")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = Random(0)
    words = [f"{start}{end}" for start in ("har", "sal", "win", "bro") for end in ("bour", "ted", "der", "ken")]
    texts = [" ".join(rng.choices(words, k=150)) for _ in range(300)]
    texts += texts[:40] + [f"{text} {rng.choice(words)}" for text in texts[40:80]]
    rng.shuffle(texts)
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(6):
        (folder / f"{number}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[number::6]))
    return folder


def body(corpus: Path) -> dict[str, Any]:
    rules = {"order": ["words", "entropy", "language"]}  # random words are no prose
    return {"kind": "clean", "name": "clean", "python_installation": False, "folders": [str(corpus)], "shards": 2} | {
        "rules": rules
    }


@pytest.fixture(scope="module")
def alone(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """What one process makes of it."""
    folder = RunFolder(tmp_path_factory.mktemp("alone"))
    spec = CleanSpec.model_validate(body(corpus))
    folder.write_job(Job(id="alone", spec=spec))
    clean.run(spec, Run(folder))
    return folder


def check(api: Api, job: dict[str, Any], alone: RunFolder) -> None:
    # Five trainer processes one after the other, each of which imports its stage: a busy machine takes its time.
    done = eventually(
        lambda: (found := api.get(f"/jobs/{job['id']}"))["state"] in ("succeeded", "failed") and found, seconds=180
    )
    assert done["state"] == "succeeded", done["error"]
    run = RunFolder(done["run_folder"])
    assert folder_hashes(run.artifact("documents")) == folder_hashes(alone.artifact("documents"))
    assert run.result() == alone.result()
    parts = [found for found in api.get("/jobs") if found["parent"] == job["id"]]
    assert {part["state"] for part in parts} == {"succeeded"}


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_makes_the_same_bytes(
    tmp_path: Path, broker_port: int, corpus: Path, alone: RunFolder, workers: int
) -> None:
    settings = make_settings(tmp_path / "home", broker_port, trainer_command=TRAINER)
    with running_api(settings) as api, ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(process("backend.worker", settings))
        check(api, api.post("/jobs", body(corpus)), alone)


def test_a_worker_killed_in_a_shard_changes_no_byte(
    tmp_path: Path, broker_port: int, corpus: Path, alone: RunFolder
) -> None:
    settings = make_settings(tmp_path / "home", broker_port, trainer_command=TRAINER)
    with running_api(settings) as api:
        job = api.post("/jobs", body(corpus))
        shard = next(found for found in api.get("/jobs") if found["name"] == "clean-shard-000")
        with process("backend.worker", settings) as worker:
            eventually((Path(shard["run_folder"]) / "status.json").exists, seconds=60)
            worker.kill()
            worker.wait()
        assert not (Path(shard["run_folder"]) / "artifacts" / "shard").exists(), "it was in the middle"
        with process("backend.worker", settings), process("backend.worker", settings):
            check(api, job, alone)
        assert api.get(f"/jobs/{shard['id']}")["attempt"] == 2

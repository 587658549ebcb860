"""A store behind a URL: runs are worked on here, kept there, and fetched where they are missing."""

import shutil
from pathlib import Path

import pytest

from backend.settings import Settings
from backend.store import Store, StoreError
from tests.backend.conftest import chain, eventually, make_settings, process, running_api, synthesize
from tests.s3 import s3, s3_server  # noqa: F401 - fixtures
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.remote import Remote


def finished(path: Path) -> RunFolder:
    run = Run(RunFolder(path))
    for part in ("artifacts/problems", "volatile/step_000001", "passes/shard-000"):
        with new_folder(path / part) as folder:
            (folder / "train.jsonl").write_text("{}")
    run.finish("succeeded")
    return run.folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_kept_run_comes_back_whole_but_for_what_only_its_machine_needs(s3: str, tmp_path: Path) -> None:  # noqa: F811
    store = Store(tmp_path, f"{s3}/runs")
    run = finished(tmp_path / "one")
    before = contents(run.path)
    store.keep(run.path)
    shutil.rmtree(run.path)
    assert store.has(run.path)
    store.fetch(run.path)
    assert contents(run.path) == {
        name: text for name, text in before.items() if not name.startswith(("volatile", "passes"))
    }
    assert not store.has(tmp_path / "two")


def test_an_attempt_that_ended_here_is_replaced_by_the_one_that_succeeded_elsewhere(s3: str, tmp_path: Path) -> None:  # noqa: F811
    here, there = Store(tmp_path / "here", f"{s3}/runs"), Store(tmp_path / "there", f"{s3}/runs")
    there.keep(finished(tmp_path / "there" / "one").path)
    Run(RunFolder(tmp_path / "here" / "one")).finish("failed", "no room")
    here.fetch(tmp_path / "here" / "one")
    assert (tmp_path / "here" / "one" / "artifacts" / "problems" / "train.jsonl").exists()


def test_a_copy_that_was_cut_off_does_not_exist(s3: str, tmp_path: Path) -> None:  # noqa: F811
    run = finished(tmp_path / "one")
    Remote(f"{s3}/runs").upload(run.artifacts / "problems" / "COMPLETE", "one/artifacts/problems/COMPLETE")
    shutil.rmtree(run.path)
    store = Store(tmp_path, f"{s3}/runs")
    assert not store.has(run.path)
    store.fetch(run.path)
    assert not run.path.exists()


def test_a_folder_as_store_copies_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, None)
    run = finished(tmp_path / "one")
    store.keep(run.path)
    assert store.has(run.path)
    assert not store.has(tmp_path / "two")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_bucket_that_does_not_exist_is_a_sentence(s3: str, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(StoreError, match=r"cannot be copied to the store .* is OCTAVO_STORE_URL right"):
        Store(tmp_path, f"{s3}-missing/runs").keep(finished(tmp_path / "one").path)


def test_a_url_leaves_the_run_folders_in_the_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, store_url="s3://bucket/runs")
    assert (settings.store, settings.store_remote) == (tmp_path / "runs", "s3://bucket/runs")
    local = Settings(home=tmp_path, store_url=f"file://{tmp_path}/elsewhere")
    assert (local.store, local.store_remote) == (tmp_path / "elsewhere", None)


def test_jobs_read_from_the_store_what_another_machine_left(s3: str, tmp_path: Path, broker_port: int) -> None:  # noqa: F811
    settings = make_settings(tmp_path / "home", broker_port, store_url=f"{s3}/runs", lease_seconds=5.0)
    with running_api(settings) as api:
        with process("backend.worker", settings):
            first = api.post("/jobs", synthesize())
            api.wait_for(first["id"], "succeeded", "failed")
        # As if the first worker's machine were another one, which is gone.
        shutil.rmtree(settings.store)
        settings.store.mkdir()
        clean = {"kind": "clean", "name": "clean"}
        with process("backend.worker", settings):
            documents = api.wait_for(api.post("/jobs", clean)["id"], "succeeded", "failed")
            inputs = {"documents": f"run:{documents['id']}", "problems": f"run:{first['id']}"}
            tokenize = {"kind": "tokenize", "name": "tokenize", "inputs": inputs, "vocab_size": 400}
            done = api.wait_for(api.post("/jobs", tokenize)["id"], "succeeded", "failed")
        assert done["state"] == "succeeded", done["error"]
        assert (settings.store / first["id"] / "artifacts" / "problems" / "train.jsonl").exists()
        shutil.rmtree(settings.store)
        assert api.get(f"/jobs/{first['id']}/result") == {"steps": 3}


def test_a_pipeline_is_reused_from_the_store(s3: str, tmp_path: Path, broker_port: int) -> None:  # noqa: F811
    settings = make_settings(tmp_path / "home", broker_port, store_url=f"{s3}/runs", lease_seconds=5.0)
    with running_api(settings) as api, process("backend.worker", settings):
        first = api.post("/pipelines", chain(seed=3))
        eventually(lambda: api.get(f"/pipelines/{first['id']}")["state"] == "succeeded")
        shutil.rmtree(settings.store)
        settings.store.mkdir()
        again = api.post("/pipelines", chain(seed=3))
        assert again["state"] == "succeeded"
        assert all(job["reused_from"] for job in again["jobs"])

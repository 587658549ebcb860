"""Deployments against a small real server that speaks serving's side of the contract."""

import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from backend.deployments import service, usage
from backend.deployments.deploy import deploy
from backend.deployments.publish import publish
from backend.deployments.service import Wanted
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.settings import Settings
from backend.users import service as users
from backend.users.schemas import NewUser
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.spec import DeploySpec, Job


class Serving:
    """Reads serving.json and says of each deployment what the test wants, to whom has the key."""

    def __init__(self, settings: Settings) -> None:
        self.home, self.state, self.error = settings.home, "ready", None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = outer.answer(self.headers["Authorization"])
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", settings.serving_port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.01])

    def read(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "serving.json").read_text()))

    def answer(self, authorization: str) -> tuple[int, Any]:
        sent = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
        if sent not in {key["sha256"] for key in self.read()["keys"]}:
            return 401, {}
        return 200, [row | {"state": self.state, "error": self.error} for row in self.read()["deployments"]]


@pytest.fixture
def serving(platform: Platform) -> Iterator[Serving]:
    publish(platform)
    started = Serving(platform.settings)
    started.thread.start()
    yield started
    started.server.shutdown()
    started.thread.join()
    started.server.server_close()


def export_job(platform: Platform, name: str) -> str:
    folder = RunFolder(platform.settings.store / name)
    with new_folder(folder.artifacts / "export") as inside:
        (inside / "config.json").write_text("{}")
    row = JobRow(id=name, name=name, kind="export", spec={}, sources={}, run_folder=str(folder.path), created=0.0)
    with platform.database.write() as session:
        session.add(row)
    return str(folder.path)


def run_deploy(platform: Platform, export: str, deadline_passed: bool = False) -> bool:
    folder = RunFolder(platform.settings.store / f"deploy-{export}")
    spec = DeploySpec(name="deploy", model_name="octavo", inputs={"export": "export"})
    folder.write_job(Job(id="d", spec=spec, inputs={"export": str(platform.settings.store / export)}))
    return deploy(platform, export, Run(folder), lambda seconds: deadline_passed)


def test_a_deploy_job_ends_when_serving_is_ready(platform: Platform, serving: Serving) -> None:
    folder = export_job(platform, "one")
    assert run_deploy(platform, "one")
    assert serving.read()["deployments"] == [{"model_name": "octavo", "export": f"{folder}/artifacts/export"}]
    [found] = service.list_deployments(platform)
    assert (found.model_name, found.job, found.state, found.error) == ("octavo", "one", "ready", None)


def test_what_serving_refuses_is_taken_back(platform: Platform, serving: Serving) -> None:
    export_job(platform, "one")
    serving.state, serving.error = "failed", "the parity check found a difference of 0.3"
    with pytest.raises(ValueError, match=r"difference of 0\.3"):
        run_deploy(platform, "one")
    assert serving.read()["deployments"] == []
    serving.state = "ready"
    run_deploy(platform, "one")
    export_job(platform, "two")
    serving.state = "failed"
    with pytest.raises(ValueError, match="could not load"):
        run_deploy(platform, "two")
    assert serving.read()["deployments"][0]["export"].endswith("one/artifacts/export")


def test_a_cancelled_deploy_leaves_nothing(platform: Platform, serving: Serving) -> None:
    export_job(platform, "one")
    serving.state = "loading"
    assert not run_deploy(platform, "one", deadline_passed=True)
    assert serving.read()["deployments"] == []


def test_without_serving_the_deployment_is_unreachable_and_says_where(platform: Platform) -> None:
    folder = export_job(platform, "one")
    service.set_deployment(platform, Wanted("octavo", "one", folder))
    [found] = service.list_deployments(platform)
    assert found.state == "unreachable"
    assert platform.settings.serving_url in str(found.error)
    service.remove(platform, "octavo")
    assert service.list_deployments(platform) == []


def test_serving_learns_hashes_of_keys_and_no_labellers(platform: Platform, serving: Serving) -> None:
    member = users.create(platform, NewUser(name="ann", role="member"))
    users.create(platform, NewUser(name="ben", role="labeller"))
    path = platform.settings.home / "serving.json"
    assert member.key not in path.read_text()
    hashes = [key["sha256"] for key in serving.read()["keys"]]
    assert hashes[0] == hashlib.sha256(member.key.encode()).hexdigest()
    assert len(hashes) == 2, "the member's and the backend's own"
    for name in ("serving.json", "serving_key"):
        assert stat.S_IMODE(os.stat(platform.settings.home / name).st_mode) == 0o600


def test_usage_is_counted_once_and_half_lines_wait(platform: Platform) -> None:
    member = users.create(platform, NewUser(name="ann"))
    publish(platform)
    path: Path = platform.settings.home / "usage.jsonl"
    content = json.loads((platform.settings.home / "serving.json").read_text())
    key = next(key["id"] for key in content["keys"] if key["id"] != "backend")
    line = json.dumps({"time": 1.0, "key": key, "model": "m", "prompt_tokens": 3, "completion_tokens": 4})
    path.write_text(f"{line}\nnot a line\n{line}\n{line[:20]}")
    assert usage.ingest(platform) == 2
    assert usage.ingest(platform) == 0
    with open(path, "a") as file:
        file.write(line[20:] + "\n")
    [found] = usage.by_key(platform)
    assert (found.user, found.requests, found.prompt_tokens, found.completion_tokens) == (member.name, 3, 9, 12)

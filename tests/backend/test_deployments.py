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
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import backend.migrations
from backend.deployments import service, usage
from backend.deployments.deploy import deploy
from backend.deployments.publish import publish
from backend.deployments.schemas import DeploymentSchema, NewDeployment
from backend.errors import Conflict, Invalid, NotFound, Unavailable
from backend.jobs.tables import JobRow
from backend.platform import Platform
from backend.settings import Settings
from backend.users import service as users
from backend.users.schemas import NewUser
from serving.metrics import Metrics
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.spec import DeploySpec, Job

GATE = {
    "dtype": "bfloat16",
    "float32_difference": 2e-6,
    "served": {
        "max_difference": 0.04, "choice_agreement": 1.0, "mean_kl": 2e-5, "top1_agreement": 0.99,
        "positions": 120, "excused": 0, "unused_experts": 3,
    },
}  # fmt: skip


class Serving:
    """Reads serving.json and says of each version what the test wants, to whom has the key."""

    def __init__(self, settings: Settings) -> None:
        self.home = settings.home
        self.state, self.error = "ready", None  # of versions that are not among `refused`
        self.refused: dict[str, str] = {}
        self.metrics = Metrics()
        self.answering: dict[str, dict[str, float]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = outer.answer(self.path, self.headers["Authorization"])
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", settings.serving_port), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.01])

    def read(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "serving.json").read_text()))

    def weights(self) -> dict[str, float]:
        """Version -> weight of the one deployment in serving.json; empty when there is none."""
        return {v["id"]: v["weight"] for row in self.read()["deployments"] for v in row["versions"]}

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        sent = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
        if sent not in {key["sha256"] for key in self.read()["keys"]}:
            return 401, b"{}"
        if path == "/metrics":
            return 200, self.metrics.render({})
        return 200, json.dumps([row for wanted in self.read()["deployments"] for row in self.rows(wanted)]).encode()

    def rows(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """Shares change once all versions that are to have one are ready."""
        name, versions = wanted["model_name"], wanted["versions"]
        states = {v["id"]: "failed" if v["id"] in self.refused else self.state for v in versions}
        total = sum(v["weight"] for v in versions)
        if all(states[v["id"]] == "ready" for v in versions if v["weight"]):
            self.answering[name] = {v["id"]: v["weight"] / total for v in versions}
        return [
            {
                "model_name": name, "version": v["id"], "export": v["export"], "state": states[v["id"]],
                "error": self.refused.get(v["id"], self.error),
                "share": self.answering.get(name, {}).get(v["id"], 0.0),
                "gate": GATE if states[v["id"]] == "ready" else None,
            }
            for v in versions
        ]  # fmt: skip


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


def create(platform: Platform, job: str, share: float = 1.0) -> DeploymentSchema:
    return service.create(platform, NewDeployment(model_name="octavo", job=job, share=share), "ann")


def shares(found: DeploymentSchema) -> dict[str, float]:
    return {version.job: version.share for version in found.versions if version.share}


def test_a_deploy_job_ends_when_serving_is_ready(platform: Platform, serving: Serving) -> None:
    folder = export_job(platform, "one")
    assert run_deploy(platform, "one")
    version = {"id": "one", "export": f"{folder}/artifacts/export", "weight": 1.0}
    assert serving.read()["deployments"] == [{"model_name": "octavo", "versions": [version]}]
    [found] = service.list_deployments(platform)
    assert (found.model_name, found.state, found.error, found.answers, found.rollback) == (
        "octavo", "ready", None, True, {},
    )  # fmt: skip
    [shown] = found.versions
    assert (shown.job, shown.share, shown.gate and shown.gate.model_dump()) == ("one", 1.0, GATE)


def test_what_serving_refuses_is_taken_back(platform: Platform, serving: Serving) -> None:
    export_job(platform, "one")
    serving.refused["one"] = "the parity check found a difference of 0.3"
    with pytest.raises(ValueError, match=r"difference of 0\.3"):
        run_deploy(platform, "one")
    assert serving.weights() == {}
    serving.refused.clear()
    run_deploy(platform, "one")
    export_job(platform, "two")
    serving.refused["two"] = "the file is damaged"
    with pytest.raises(ValueError, match="could not load"):
        run_deploy(platform, "two")
    assert serving.weights() == {"one": 1.0}
    actions = [change.action for change in service.list_history(platform, "octavo")]
    assert actions == ["restore", "deploy", "deploy", "restore", "deploy"]


def test_a_cancelled_deploy_leaves_nothing(platform: Platform, serving: Serving) -> None:
    export_job(platform, "one")
    serving.state = "loading"
    assert not run_deploy(platform, "one", deadline_passed=True)
    assert serving.weights() == {}


def test_without_serving_the_deployment_is_unreachable_and_says_where(platform: Platform) -> None:
    export_job(platform, "one")
    found = create(platform, "one")
    assert (found.state, found.answers) == ("unreachable", False)
    assert platform.settings.serving_url in str(found.error)
    with pytest.raises(Unavailable, match="does not answer"):
        service.live(platform)
    service.remove(platform, "octavo", "ann")
    assert service.list_deployments(platform) == []


def test_rollback_exchanges_two_versions_and_the_other_stays_loaded(platform: Platform, serving: Serving) -> None:
    for job in ("one", "two"):
        export_job(platform, job)
        found = create(platform, job)
    assert (shares(found), found.rollback) == ({"two": 1.0}, {"one": 1.0})
    assert serving.weights() == {"two": 1.0, "one": 0.0}
    assert create(platform, "two").rollback == {"one": 1.0}, "deployed again, it is still no version to go back to"
    for answering, other in (("one", "two"), ("two", "one")):
        found = service.roll_back(platform, "octavo", "ann")
        assert (shares(found), found.rollback) == ({answering: 1.0}, {other: 1.0})


def test_a_share_below_one_splits_and_a_larger_one_moves_it(platform: Platform, serving: Serving) -> None:
    for job in ("one", "two"):
        export_job(platform, job)
    create(platform, "one")
    assert shares(create(platform, "two", 0.25)) == {"one": 0.75, "two": 0.25}
    moved = create(platform, "two", 0.5)
    assert [(version.job, version.weight) for version in moved.versions] == [("one", 0.5), ("two", 0.5)]
    assert moved.rollback == {"one": 0.75, "two": 0.25}
    assert shares(service.roll_back(platform, "octavo", "ann")) == {"one": 0.75, "two": 0.25}


def test_what_answers_goes_on_until_the_split_is_ready(platform: Platform, serving: Serving) -> None:
    for job in ("one", "two"):
        export_job(platform, job)
    create(platform, "one")
    serving.refused["two"] = "the parity check found a difference of 0.3"
    found = create(platform, "two", 0.5)
    assert (found.state, found.answers, shares(found)) == ("failed", True, {"one": 1.0})
    assert found.error == "the parity check found a difference of 0.3"


def test_a_refused_version_is_nothing_to_go_back_to(platform: Platform, serving: Serving) -> None:
    for job in ("one", "two", "three"):
        export_job(platform, job)
    create(platform, "one")
    serving.refused["two"] = "the file is damaged"
    create(platform, "two")
    assert create(platform, "three").rollback == {"one": 1.0}
    create(platform, "two")
    found = service.roll_back(platform, "octavo", "ann")
    assert (shares(found), found.rollback) == ({"three": 1.0}, {})
    with pytest.raises(Conflict, match="none to go back to"):
        service.roll_back(platform, "octavo", "ann")


def test_what_cannot_be_done_says_why_and_changes_nothing(platform: Platform, serving: Serving) -> None:
    for job in ("one", "two", "three"):
        export_job(platform, job)
    with pytest.raises(Conflict, match="none does"):
        create(platform, "one", 0.5)
    create(platform, "one")
    with pytest.raises(Conflict, match="none to go back to"):
        service.roll_back(platform, "octavo", "ann")
    with pytest.raises(Conflict, match="none does"):
        create(platform, "one", 0.5)
    create(platform, "two", 0.5)
    with pytest.raises(Conflict, match="2 do"):
        create(platform, "three", 0.5)
    (platform.settings.store / "three" / "artifacts" / "export" / "COMPLETE").unlink()
    with pytest.raises(Invalid, match="left no export"):
        create(platform, "three")
    with pytest.raises(NotFound, match="GET /deployments"):
        service.roll_back(platform, "other", "ann")
    assert serving.weights() == {"one": 0.5, "two": 0.5}
    assert len(service.list_history(platform, "octavo")) == 2


def test_history_is_newest_first_and_outlives_the_deployment(platform: Platform, serving: Serving) -> None:
    for job in ("one", "two"):
        export_job(platform, job)
    create(platform, "one")
    create(platform, "two", 0.25)
    service.roll_back(platform, "octavo", "ben")
    service.remove(platform, "octavo", "ann")
    assert [(c.action, c.user, c.versions) for c in service.list_history(platform, "octavo")] == [
        ("remove", "ann", {}),
        ("rollback", "ben", {"one": 1.0}),
        ("split", "ann", {"one": 0.75, "two": 0.25}),
        ("deploy", "ann", {"one": 1.0}),
    ]
    with pytest.raises(NotFound):
        service.remove(platform, "octavo", "ann")
    assert create(platform, "two").rollback == {}


def test_live_figures_are_servings_own_by_version(platform: Platform, serving: Serving) -> None:
    metrics, of = serving.metrics, ("octavo", "one")
    metrics.requests.labels(*of, "stop").inc(3)
    metrics.requests.labels(*of, "error").inc()
    metrics.completion_tokens.labels(*of).inc(40)
    for seconds in (0.004, 0.02, 0.02, 90):
        metrics.first_token.labels(*of).observe(seconds)
    metrics.requests.labels("octavo", "two", "stop").inc()
    one, two = service.live(platform).versions
    assert (one.version, one.requests, one.failed, one.completion_tokens) == ("one", 4, 1, 40)
    counted = dict(zip(one.first_token.bounds, one.first_token.counts, strict=True))
    assert {bound: count for bound, count in counted.items() if count} == {0.005: 1, 0.025: 2, None: 1}
    assert one.inter_token.counts == []
    assert (two.version, two.requests, two.failed) == ("two", 1, 0)


def test_deployments_of_the_first_tables_live_on_as_their_first_change(platform: Platform) -> None:
    folder = export_job(platform, "one")
    config = Config()
    config.set_main_option("script_location", str(Path(backend.migrations.__file__).parent))
    old = {"model_name": "octavo", "job_id": "one", "export": folder, "created": 12.5}
    with platform.database.connection() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        connection.execute(text("INSERT INTO deployments VALUES (:model_name, :job_id, :export, :created)"), old)
        command.upgrade(config, "0002")
        command.downgrade(config, "0001")
        assert [dict(row) for row in connection.execute(text("SELECT * FROM deployments")).mappings()] == [old]
        command.upgrade(config, "head")
    [found] = service.list_deployments(platform)
    assert (found.since, found.versions[0].job, found.versions[0].export) == (12.5, "one", folder)


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

"""What a client meets at the door: keys, roles, errors, a quick start."""

import os
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest

from backend.settings import Settings
from tests.backend.conftest import (
    ROOT,
    Api,
    chain,
    environment,
    eventually,
    free_port,
    make_settings,
    process,
    synthesize,
)


def message_of(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    [error] = answer.json().values()
    assert error["code"]
    assert "\n" not in error["message"]
    return str(error["message"])


def test_importing_the_app_and_the_worker_loads_no_torch() -> None:
    heavy = "torch numpy sympy deepspeed transformers"
    code = f"import sys, backend.app, backend.worker; print([m for m in '{heavy}'.split() if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def seconds_without_a_core(pid: int) -> float:
    """How long a process was ready to run and others had the cores: a busy machine says nothing about the start."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def test_healthz_answers_within_three_seconds_of_the_start(settings: Settings) -> None:
    settings = make_settings(settings.home, settings.broker_port, backend_port=free_port())
    started = time.monotonic()

    def healthy() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{settings.backend_port}/healthz").json()["status"] == "ok"
        except httpx.TransportError:
            return False

    with process("backend", settings) as backend:
        eventually(healthy)
        assert time.monotonic() - started - seconds_without_a_core(backend.pid) <= 3.0
        # A second one is refused in one sentence, and the first goes on.
        for module, variable in (("backend", "OCTAVO_BACKEND_PORT"), ("backend.broker", "OCTAVO_BROKER_PORT")):
            second = subprocess.run(
                [sys.executable, "-m", module],
                env=environment(settings),
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert second.returncode == 1
            assert second.stderr.count("\n") == 1
            assert variable in second.stderr
        assert healthy()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OCTAVO_HOME", "{file}/home"),
        ("OCTAVO_STORE_URL", "{file}"),
        ("OCTAVO_DATABASE_URL", "sqlite:///{file}/octavo.db"),
        ("OCTAVO_DATABASE_URL", "nosuch://somewhere"),
        ("OCTAVO_BACKEND_PORT", "eighty"),
    ],
)
def test_what_keeps_the_backend_from_starting_is_one_sentence(
    settings: Settings, tmp_path: Path, variable: str, value: str
) -> None:
    (tmp_path / "file").touch()
    wrong = {"OCTAVO_BACKEND_PORT": str(free_port()), variable: value.format(file=tmp_path / "file")}
    done = subprocess.run(
        [sys.executable, "-m", "backend"], env=environment(settings) | wrong, cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert variable in done.stderr


def test_the_admin_key_is_written_once_and_for_the_owner_only(api: Api, settings: Settings) -> None:
    path = settings.home / "admin_key"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert api.get("/me")["role"] == "admin"
    assert path.read_text().strip() not in (settings.home / "octavo.db").read_bytes().decode("latin-1")


def test_every_route_but_healthz_wants_a_key(api: Api) -> None:
    routes = [(method, path) for path, entry in api.client.app.openapi()["paths"].items() for method in entry]
    assert len(routes) > 25
    for method, path in routes:
        answer = api.client.request(method, path, headers={"Authorization": "Bearer wrong"})
        if path == "/healthz":
            assert answer.status_code == 200
        else:
            assert "wrong key" in message_of(answer, 401)
    del api.client.headers["Authorization"]
    assert "Authorization: Bearer" in message_of(api.client.get("/jobs"), 401)


def test_a_labeller_may_label_and_nothing_else(api: Api) -> None:
    user = api.post("/users", {"name": "rater", "role": "labeller"})
    as_rater = {"Authorization": f"Bearer {user['key']}"}
    assert api.client.get("/labels/summary", headers=as_rater).status_code == 200
    assert api.client.get("/pairs/next", headers=as_rater).status_code == 204
    for path in ("/jobs", "/users", "/deployments", "/system"):
        assert "role" in message_of(api.client.get(path, headers=as_rater), 403)
    assert "another name" in message_of(api.client.post("/users", json={"name": "rater"}), 409)
    assert "key" not in str(api.get("/users"))


@pytest.mark.parametrize(
    ("path", "body", "status", "named"),
    [
        ("/jobs", synthesize(trian=3), 422, "trian"),
        ("/jobs", synthesize(train=0), 422, "train"),
        ("/jobs", {"kind": "synthesise", "name": "s"}, 422, "synthesise"),
        ("/jobs", {"kind": "clean", "name": "c", "folders": ["/no/such/folder"]}, 422, "/no/such/folder"),
        ("/jobs", {"kind": "import", "name": "i", "source": "/no/such/model"}, 422, "/no/such/model"),
        ("/jobs", {"kind": "import", "name": "i", "source": __file__}, 422, "no .gguf file"),
        (
            "/jobs",
            {"kind": "tokenize", "name": "t", "inputs": {"documents": "run:d", "problems": "run:p"}},
            422,
            "vocab_size",
        ),
        ("/pipelines", {"recipe": "upcycle"}, 422, "give the checkpoint to import"),
        ("/jobs", {"kind": "export", "name": "e", "inputs": {"checkpoint": "run:nothing"}}, 422, "run:nothing"),
        ("/jobs", {"kind": "export", "name": "e"}, 422, "checkpoint"),
        ("/pipelines", {"recipe": "nanno"}, 404, "nano"),
        ("/pipelines", {"recipe": "nano", "overrides": {"stf": {"steps": 1}}}, 422, "stf"),
        ("/pipelines", {"recipe": "nano", "overrides": {"sft": {"stepps": 1}}}, 422, "stepps"),
        ("/pipelines", {"recipe": "nano", "overrides": {"evaluate-dpo": {"n": 1}}}, 422, "job 'evaluate-dpo'"),
        ("/pipelines", {"name": "none", "jobs": []}, 422, "jobs: needs at least 1"),
        ("/jobs", {"name": "s"}, 422, "kind: Field required"),
        ("/labels", {"pair": "x", "position": "ab", "choice": "middle"}, 422, "choice"),
        ("/labels", {"pair": "x", "position": "ab", "choice": "left"}, 404, "pair 'x'"),
        ("/deployments", {"model_name": "m", "job": "nothing"}, 404, "nothing"),
        ("/deployments/m/rollback", None, 404, "GET /deployments"),
        ("/pairs/from-job", {"job": "nothing"}, 404, "nothing"),
    ],
)
def test_bad_input_is_one_sentence_that_names_the_cause_and_leaves_nothing(
    api: Api, path: str, body: dict, status: int, named: str
) -> None:
    assert named in message_of(api.client.post(path, json=body), status)
    assert api.get("/jobs") == []
    assert api.get("/pipelines") == []


def test_a_wrong_job_in_a_recipe_is_said_once(api: Api) -> None:
    answer = api.client.post("/pipelines", json={"name": "x", "jobs": [synthesize(trian=3)]})
    assert message_of(answer, 422) == "jobs.0.synthesize.trian: unknown field; check its spelling"


def test_other_errors_have_the_same_shape(api: Api) -> None:
    assert "no job 'x'" in message_of(api.client.get("/jobs/x"), 404)
    assert "/nowhere" in message_of(api.client.get("/nowhere"), 404)
    assert "PUT" in message_of(api.client.put("/jobs"), 405)
    malformed = api.client.post("/jobs", content="{", headers={"Content-Type": "application/json"})
    assert message_of(malformed, 422).startswith("not JSON: ")
    assert "line 2" in message_of(api.client.post("/pairs/import", content="\n{}"), 422)


def test_an_input_of_the_wrong_kind_is_refused(api: Api) -> None:
    job = api.post("/jobs", synthesize())
    body = {"kind": "export", "name": "e", "inputs": {"checkpoint": f"run:{job['id']}"}}
    assert "synthesize job" in message_of(api.client.post("/jobs", json=body), 422)


def test_a_shipped_recipe_starts_with_changed_fields(api: Api) -> None:
    with open(ROOT / "trainer/recipes/nano.toml", "rb") as file:
        names = [job["name"] for job in tomllib.load(file)["jobs"]]
    pipeline = api.post("/pipelines", {"recipe": "nano", "overrides": {"sft": {"optimizer": {"lr": 0.5}, "steps": 7}}})
    assert [job["name"] for job in pipeline["jobs"]] == names
    sft = next(job for job in pipeline["jobs"] if job["name"] == "sft")
    default = next(job for job in api.get("/recipes/nano")["jobs"] if job["name"] == "sft")
    assert sft["spec"] == default | {"steps": 7, "optimizer": default["optimizer"] | {"lr": 0.5}}
    assert api.post(f"/pipelines/{pipeline['id']}/cancel")["state"] == "cancelled"


def test_jobs_are_accepted_while_the_broker_is_away(tmp_path: Path) -> None:
    from tests.backend.conftest import running_api

    with running_api(make_settings(tmp_path / "home", free_port())) as api:
        started = time.monotonic()
        job = api.post("/jobs", synthesize())
        assert job["state"] == "queued"
        assert api.get("/system")["queue"] == {"waiting": 0, "queued": 1, "running": 0, "messages": None}
        assert time.monotonic() - started < 5


def test_a_chain_waits_for_its_inputs(api: Api) -> None:
    states = {job["name"]: job["state"] for job in api.post("/pipelines", chain())["jobs"]}
    assert states == {"clean": "queued", "synthesize": "queued", "tokenize": "waiting"}

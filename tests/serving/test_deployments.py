"""Switching under load loses no stream; a bad export or a bad file leaves what runs as it was."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import create_app
from serving.deployments import Deployments
from serving.engine_protocol import Served
from serving.keys import Key
from serving.loader import load_export
from serving.settings import Settings
from tests.serving.world import KEY, endpoint, exported, key_entry, wait_until, write_serving_file

SETTINGS = Settings(serving_kv_megabytes=8)
BODY = {"model": "m", "prompt": [20, 21], "max_tokens": 30, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("exports")
    return exported(folder / "one", seed=1), exported(folder / "two", seed=2)


def load(export: Path) -> Served:
    return load_export(export, SETTINGS)


@contextmanager
def following(home: Path, loader: Callable[[Path], Served] = load) -> Iterator[Deployments]:
    deployments = Deployments(home / "serving.json", loader)
    deployments.start()
    try:
        yield deployments
    finally:
        deployments.close()


def settled(deployments: Deployments) -> bool:
    return all(state.state != "loading" for state in deployments.states())


def test_switches_under_load_fail_no_request(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    """Every answer is wholly of one of the two networks."""
    write_serving_file(tmp_path, {"m": exports[0]})
    with endpoint(tmp_path) as http:
        answers: list[str] = []
        stop = threading.Event()

        def load_it() -> None:
            while not stop.is_set():
                response = http.post("/v1/completions", json=BODY)
                assert response.status_code == 200, response.text
                answers.append(response.json()["choices"][0]["text"])

        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(load_it) for _ in range(4)]
            for turn in range(1, 9):
                wanted = exports[turn % 2]
                write_serving_file(tmp_path, {"m": wanted}, version=turn + 1)
                ready = [{"model_name": "m", "export": str(wanted), "state": "ready", "error": None}]
                wait_until(lambda ready=ready: http.get("/deployments").json() == ready)
            stop.set()
            for worker in workers:
                worker.result(timeout=30)
        assert len(set(answers)) == 2
        assert len(answers) > 16


def test_a_bad_export_is_refused_with_its_reason_and_the_old_one_goes_on(
    tmp_path: Path, exports: tuple[Path, Path]
) -> None:
    write_serving_file(tmp_path, {"m": exports[0]})
    with following(tmp_path) as deployments:
        wait_until(lambda: settled(deployments))
        running = deployments.ready()["m"]
        write_serving_file(tmp_path, {"m": tmp_path / "nowhere"}, version=2)
        deployments.poll()
        wait_until(lambda: settled(deployments))
        (state,) = deployments.states()
        assert state.state == "failed"
        assert "nowhere has no COMPLETE marker" in (state.error or "")
        assert deployments.ready()["m"] is running
        assert running.engine.is_alive()


def test_a_refused_export_is_tried_again_when_the_backend_asks(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    good = threading.Event()

    def sometimes(export: Path) -> Served:
        if not good.is_set():
            raise ValueError("not today")
        return load(export)

    write_serving_file(tmp_path, {"m": exports[0]})
    with following(tmp_path, sometimes) as deployments:
        wait_until(lambda: settled(deployments))
        assert deployments.states()[0].error == "not today"
        good.set()
        write_serving_file(tmp_path, {"m": exports[0]}, version=2)
        deployments.poll()
        wait_until(lambda: deployments.states()[0].state == "ready")


def test_a_bad_file_keeps_the_last_good_one(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    write_serving_file(tmp_path, {"m": exports[0]})
    with following(tmp_path) as deployments:
        wait_until(lambda: settled(deployments))
        (tmp_path / "serving.json").write_text('{"version": 2, "deployment": []}')
        deployments.poll()
        assert "deployment: unknown field" in (deployments.error or "")
        assert "m" in deployments.ready()
        assert deployments.find_key(KEY) == Key(**key_entry("tester", KEY))


def test_a_removed_model_is_gone_and_a_revoked_key_too(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    write_serving_file(tmp_path, {"m": exports[0]})
    with following(tmp_path) as deployments:
        wait_until(lambda: settled(deployments))
        engine = deployments.ready()["m"].engine
        write_serving_file(tmp_path, {}, version=2, key="another")
        deployments.poll()
        assert deployments.ready() == {}
        engine.join()
        assert not engine.is_alive()
        assert deployments.find_key(KEY) is None
        assert deployments.find_key("another") == Key(**key_entry("tester", "another"))


def test_an_export_written_anew_in_the_same_place_is_loaded_again(tmp_path: Path) -> None:
    export = exported(tmp_path / "one", seed=1)
    write_serving_file(tmp_path, {"m": export})
    with following(tmp_path) as deployments:
        wait_until(lambda: settled(deployments))
        before = deployments.ready()["m"]
        (export.parent / "second").mkdir()
        exported(export.parent / "second", seed=2).rename(export.parent / "new")
        export.rename(export.parent / "old")
        (export.parent / "new").rename(export)
        write_serving_file(tmp_path, {"m": export}, version=2)
        deployments.poll()
        wait_until(lambda: deployments.ready()["m"] is not before)


# -- the app around engines that fail --------------------------------------------------------------------------------


@asynccontextmanager
async def app_client(home: Path, loader: Callable[[Path], Served], **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(home=home, **settings), loader)
    async with app.router.lifespan_context(app):
        deployments = app.state.serving.deployments
        wait_until(lambda: settled(deployments))
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://serving", headers=headers) as client:
            yield client


def breaking(after: int) -> Callable[[Path], Served]:
    """Real engines whose network fails in its step number `after`."""

    def loader(export: Path) -> Served:
        served = load(export)
        runner = served.engine.runner  # type: ignore[attr-defined]
        real, steps = runner.forward, iter(range(1_000))

        def forward(chunks: Any) -> Any:
            if next(steps) == after:
                raise RuntimeError("the device is gone")
            return real(chunks)

        runner.forward = forward
        return served

    return loader


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_error_reaches_the_client_as_500(
    tmp_path: Path, exports: tuple[Path, Path], stream: bool
) -> None:
    write_serving_file(tmp_path, {"m": exports[0]})
    async with app_client(tmp_path, breaking(0)) as client:
        response = await client.post("/v1/completions", json={**BODY, "stream": stream})
        assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_error")
        again = await client.post("/v1/completions", json=BODY)
        assert again.status_code == 200, "the engine goes on"


@pytest.mark.anyio
async def test_an_engine_error_within_a_stream_is_its_last_event(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    write_serving_file(tmp_path, {"m": exports[0]})
    async with app_client(tmp_path, breaking(5)) as client:
        response = await client.post("/v1/completions", json={**BODY, "stream": True})
        events = response.text.strip().split("\n\n")
        assert '"code": "engine_error"' in events[-1]
        assert "[DONE]" not in response.text


@pytest.mark.anyio
async def test_a_refused_model_says_why_and_the_server_is_not_ready(tmp_path: Path) -> None:
    write_serving_file(tmp_path, {"m": tmp_path / "nowhere"})
    async with app_client(tmp_path, load) as client:
        response = await client.post("/v1/completions", json=BODY)
        assert response.status_code == 503
        assert "COMPLETE" in response.json()["error"]["message"]
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.anyio
async def test_without_a_serving_file_every_key_is_refused(tmp_path: Path) -> None:
    async with app_client(tmp_path, load) as client:
        assert (await client.get("/v1/models")).status_code == 401
        assert "does not exist yet" in (await client.get("/readyz")).json()["error"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"

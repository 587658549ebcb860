"""Switching under load loses no stream; a bad export or a bad file leaves what runs as it was."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
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
from serving.request import Event
from serving.settings import Settings
from tests.serving.world import KEY, Mailbox, exported, key_entry, request, slow_greedy, tokens_of, write_serving_file
from trainer.model.mixtral import load_model

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


def rewrite(deployments: Deployments, wanted: dict[str, Any], version: int) -> None:
    """Write serving.json anew, and wait until all of it is loaded or refused."""
    write_serving_file(deployments.path.parent, wanted, version)
    deployments.poll()
    assert deployments.wait_until_settled(30)


@pytest.mark.anyio
async def test_twenty_switches_under_load_fail_no_stream(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    """Every stream ends, and is from its first to its last token of the version it names."""
    write_serving_file(tmp_path, {"m": {"v0": (exports[0], 1)}})
    async with app_client(tmp_path, load) as client:
        answers: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        requests, texts = [0], {}
        swapping = True

        async def stream_on() -> None:
            while swapping:
                requests[0] += 1
                response = await client.post("/v1/completions", json={**BODY, "stream": True})
                await answers.put(check_stream(response))

        workers = [asyncio.create_task(stream_on()) for _ in range(4)]
        for turn in range(1, 21):
            wanted = {"m": {f"v{turn}": (exports[turn % 2], 1)}}
            await asyncio.to_thread(rewrite, deployments_of(client), wanted, turn + 1)
            while (answer := await answers.get())[0] != f"v{turn}":
                texts[answer[0]] = answer[1]
            texts[answer[0]] = answer[1]
        swapping = False
        await asyncio.gather(*workers)
        while not answers.empty():
            version, text = answers.get_nowait()
            assert texts[version] == text
        for version, text in texts.items():
            assert text == texts["v19" if int(version[1:]) % 2 else "v20"]
        assert len(set(texts.values())) == 2
        assert requests[0] > 20


def check_stream(response: httpx.Response) -> tuple[str, str]:
    """The version and the text of a stream that went well."""
    assert response.status_code == 200, response.text
    *events, done = [line.removeprefix("data: ") for line in response.text.strip().split("\n\n")]
    assert done == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {chunk["system_fingerprint"] for chunk in chunks} == {response.headers["X-Octavo-Version"]}
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    return response.headers["X-Octavo-Version"], "".join(chunk["choices"][0]["text"] for chunk in chunks)


def deployments_of(client: httpx.AsyncClient) -> Deployments:
    transport: Any = client._transport
    found: Deployments = transport.app.state.serving.deployments
    return found


def test_a_stream_ends_on_the_weights_it_began_with(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    write_serving_file(tmp_path, {"m": {"old": (exports[0], 1)}})
    with following(tmp_path) as deployments:
        assert deployments.wait_until_settled(30)
        old = deployments.ready()["m"]
        mailbox, begun, switched = Mailbox(), threading.Event(), threading.Event()

        def emit(event: Event) -> None:
            mailbox.put(event)
            begun.set()
            assert switched.wait(30)

        old.engine.submit(request("slow", [20, 21], max_tokens=30, ignore_end=True), emit)
        assert begun.wait(30)
        rewrite(deployments, {"m": {"new": (exports[1], 1)}}, 2)
        assert deployments.ready()["m"].version == "new"
        switched.set()
        expected = slow_greedy(load_model(exports[0]), [20, 21], 30, end_id=-1)
        assert tokens_of(mailbox.answer()) == expected
        old.engine.join()


def test_a_bad_export_is_refused_with_its_reason_and_the_old_one_goes_on(
    tmp_path: Path, exports: tuple[Path, Path]
) -> None:
    """Also where the file no longer names the old one."""
    write_serving_file(tmp_path, {"m": {"old": (exports[0], 1)}})
    with following(tmp_path) as deployments:
        assert deployments.wait_until_settled(30)
        running = deployments.ready()["m"]
        for turn, kept in enumerate(({"old": (exports[0], 0)}, {}), start=2):
            rewrite(deployments, {"m": {"new": (tmp_path / "nowhere", 1), **kept}}, turn)
            states = {state.version: state for state in deployments.states()}
            assert (states["new"].state, states["new"].share) == ("failed", 0)
            assert "nowhere has no COMPLETE marker" in (states["new"].error or "")
            assert deployments.ready()["m"] is running
            assert deployments.route("m", "anybody") is running
            assert running.engine.is_alive()


def test_going_back_to_what_is_kept_loads_nothing(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    loads = []

    def counting(export: Path) -> Served:
        loads.append(export)
        return load(export)

    one, two = exports
    write_serving_file(tmp_path, {"m": {"one": (one, 1)}})
    with following(tmp_path, counting) as deployments:
        assert deployments.wait_until_settled(30)
        rewrite(deployments, {"m": {"two": (two, 1), "one": (one, 0)}}, 2)
        assert deployments.ready()["m"].version == "two"
        assert {state.version: state.share for state in deployments.states()} == {"two": 1, "one": 0}
        assert all(state.gate is not None for state in deployments.states())
        write_serving_file(tmp_path, {"m": {"one": (one, 1), "two": (two, 0)}}, 3)
        deployments.poll()
        assert deployments.ready()["m"].version == "one", "at once"
        assert loads == [one, two]
        gone = deployments.route("m@two", "")
        assert gone is not None
        rewrite(deployments, {"m": {"one": (one, 1)}}, 4)
        gone.engine.join()


# -- two versions under one name -------------------------------------------------------------------------------------


def split(exports: tuple[Path, Path], second: float) -> dict[str, Any]:
    return {"m": {"one": (exports[0], 1 - second), "two": (exports[1], second)}}


def test_shares_are_the_weights_and_a_text_stays_with_its_version(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    texts = [f"question {number}" for number in range(3_000)]

    def routed(deployments: Deployments) -> list[str]:
        found = [deployments.route("m", text) for text in texts]
        return [served.version for served in found if served is not None]

    write_serving_file(tmp_path, split(exports, 0.1))
    with following(tmp_path) as deployments, following(tmp_path) as replica:
        assert deployments.wait_until_settled(30)
        assert replica.wait_until_settled(30)
        few = routed(deployments)
        assert few == routed(replica)
        assert few.count("two") / len(texts) == pytest.approx(0.1, abs=0.02)
        rewrite(deployments, split(exports, 0.3), 2)
        more = routed(deployments)
        assert more.count("two") / len(texts) == pytest.approx(0.3, abs=0.03)
        assert all(after == "two" for before, after in zip(few, more, strict=True) if before == "two")
        assert {state.version: state.share for state in deployments.states()} == {
            "one": pytest.approx(0.7), "two": pytest.approx(0.3),
        }  # fmt: skip
        pinned = deployments.route("m@two", "whatever")
        assert pinned is not None
        assert pinned.version == "two"
        assert deployments.route("m@three", "") is None


@pytest.mark.anyio
async def test_a_conversation_stays_with_its_version_and_every_answer_names_it(
    tmp_path: Path, exports: tuple[Path, Path]
) -> None:
    write_serving_file(tmp_path, split(exports, 0.5))
    async with app_client(tmp_path, load) as client:

        async def version(messages: list[dict[str, str]]) -> str:
            body = {"model": "m", "messages": messages, "max_tokens": 2, "ignore_eos": True}
            answer = await client.post("/v1/chat/completions", json=body)
            assert answer.json()["system_fingerprint"] == answer.headers["X-Octavo-Version"]
            return answer.headers["X-Octavo-Version"]

        seen = set()
        for number in range(12):
            opening = [{"role": "user", "content": f"{number} plus 1"}]
            first = await version(opening)
            later = [*opening, {"role": "assistant", "content": "2"}, {"role": "user", "content": "and 3"}]
            assert await version(later) == first
            seen.add(first)
        assert seen == {"one", "two"}
        metrics = (await client.get("/metrics")).text
        for name in seen:
            assert f'octavo_kv_blocks{{model="m",version="{name}"}}' in metrics
        unknown = await client.post("/v1/completions", json={**BODY, "model": "m@three"})
        assert unknown.status_code == 404


@pytest.mark.parametrize(
    ("versions", "said"),
    [
        ([], "no version of model 'm' has a weight above 0"),
        ([{"id": "a", "export": "x", "weight": 0}], "no version of model 'm' has a weight above 0"),
        ([{"id": "a", "export": "x"}, {"id": "a", "export": "y"}], "names a version twice"),
        ([{"id": "a", "export": "x", "weight": -1}], "greater than or equal to 0"),
    ],
)
def test_a_file_that_could_not_be_answered_with_is_not_taken_over(
    tmp_path: Path, versions: list[dict[str, Any]], said: str
) -> None:
    (tmp_path / "serving.json").write_text(
        json.dumps({"version": 2, "deployments": [{"model_name": "m", "versions": versions}]})
    )
    deployments = Deployments(tmp_path / "serving.json", load)
    deployments.poll()
    assert said in (deployments.error or "")


def test_a_refused_export_is_tried_again_when_the_backend_asks(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    good = threading.Event()

    def sometimes(export: Path) -> Served:
        if not good.is_set():
            raise ValueError("not today")
        return load(export)

    write_serving_file(tmp_path, {"m": exports[0]})
    with following(tmp_path, sometimes) as deployments:
        assert deployments.wait_until_settled(30)
        assert deployments.states()[0].error == "not today"
        good.set()
        write_serving_file(tmp_path, {"m": exports[0]}, version=2)
        deployments.poll()
        assert deployments.wait_until_settled(30)
        assert deployments.states()[0].state == "ready"


def test_a_bad_file_keeps_the_last_good_one(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    write_serving_file(tmp_path, {"m": exports[0]})
    with following(tmp_path) as deployments:
        assert deployments.wait_until_settled(30)
        (tmp_path / "serving.json").write_text('{"version": 2, "deployment": []}')
        deployments.poll()
        assert "deployment: unknown field" in (deployments.error or "")
        assert "m" in deployments.ready()
        assert deployments.find_key(KEY) == Key(**key_entry("tester", KEY))


def test_a_removed_model_is_gone_and_a_revoked_key_too(tmp_path: Path, exports: tuple[Path, Path]) -> None:
    write_serving_file(tmp_path, {"m": exports[0]})
    with following(tmp_path) as deployments:
        assert deployments.wait_until_settled(30)
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
        assert deployments.wait_until_settled(30)
        before = deployments.ready()["m"]
        (export.parent / "second").mkdir()
        exported(export.parent / "second", seed=2).rename(export.parent / "new")
        export.rename(export.parent / "old")
        (export.parent / "new").rename(export)
        write_serving_file(tmp_path, {"m": export}, version=2)
        deployments.poll()
        assert deployments.wait_until_settled(30)
        assert deployments.ready()["m"] is not before


# -- the app around engines that fail --------------------------------------------------------------------------------


@asynccontextmanager
async def app_client(home: Path, loader: Callable[[Path], Served], **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(home=home, **settings), loader)
    async with app.router.lifespan_context(app):
        deployments = app.state.serving.deployments
        assert deployments.wait_until_settled(30)
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

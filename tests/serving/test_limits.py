"""Keys over their limits, revoked keys, consented chats, and clients that do not read."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ApiError
from serving.keys import Key, RateLimiter
from serving.logs import ChatLog, Kept
from tests.serving.world import KEY, endpoint, exported, key_entry, wait_until, write_serving_file
from tests.trainer import tiny
from trainer.artifacts import write_atomic

# -- the allowance ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def admitted(limiter: RateLimiter, key: Key) -> bool:
    try:
        limiter.admit(key)
    except ApiError:
        return False
    return True


@given(st.integers(1, 30), st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_no_minute_sees_more_requests_than_twice_the_limit_and_a_steady_client_is_never_refused(
    limit: int, pauses: list[float]
) -> None:
    """A token bucket: a full allowance at once, and what flows in meanwhile."""
    clock, key = Clock(), Key(id="k", sha256="", requests_per_minute=limit)
    limiter, times = RateLimiter(clock), []
    for pause in pauses:
        clock.seconds += pause
        if admitted(limiter, key):
            times.append(clock.seconds)
    for begin in times:
        assert sum(begin <= time < begin + 60 for time in times) <= 2 * limit
    steady = RateLimiter(clock)
    for _ in range(3 * limit):
        clock.seconds += 60 / limit
        assert admitted(steady, key)


@given(st.integers(1, 100), st.integers(0, 300))
def test_after_the_seconds_that_are_named_the_key_is_admitted(limit: int, tokens: int) -> None:
    clock = Clock()
    key, limiter = Key(id="k", sha256="", tokens_per_minute=limit), RateLimiter(clock)
    limiter.admit(key)
    limiter.charge(key, tokens)
    if not admitted(limiter, key):
        with pytest.raises(ApiError, match="tokens a minute") as caught:
            limiter.admit(key)
        wait = int((caught.value.headers or {})["Retry-After"])
        clock.seconds += wait - 1.001
        assert not admitted(limiter, key), "nor is it told to wait for longer than it must"
        clock.seconds += 1.001
        assert admitted(limiter, key)
    else:
        assert tokens < limit


def test_keys_do_not_share_and_a_limit_that_is_lifted_is_gone() -> None:
    limiter = RateLimiter(Clock())
    one, other = (Key(id=name, sha256="", requests_per_minute=1) for name in "ab")
    assert [admitted(limiter, one), admitted(limiter, one), admitted(limiter, other)] == [True, False, True]
    assert admitted(limiter, one.model_copy(update={"requests_per_minute": None}))


# -- over HTTP -------------------------------------------------------------------------------------------------------

KEYS = [
    key_entry("tester", KEY),
    key_entry("few", "few-key", requests_per_minute=2),
    key_entry("short", "short-key", tokens_per_minute=15),
    key_entry("open", "open-key", keep_chats=True),
    key_entry("leaked", "leaked-key"),
]
WithKey = Callable[[str], openai.OpenAI]
QUESTION: Any = [{"role": "user", "content": "1 plus 2"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_serving_file(home, {"tiny": exported(home, config=tiny.config(max_position_embeddings=12_000))}, keys=KEYS)
    return home


@pytest.fixture(scope="module")
def http(home: Path) -> Iterator[httpx.Client]:
    with endpoint(home, OCTAVO_SERVING_MAX_UNREAD="64") as client:
        yield client


@pytest.fixture(scope="module")
def client_with(http: httpx.Client) -> Iterator[WithKey]:
    """A client with another key."""
    with ExitStack() as stack:
        shared = stack.enter_context(openai.DefaultHttpxClient(trust_env=False))

        def make(key: str) -> openai.OpenAI:
            return openai.OpenAI(api_key=key, base_url=f"{http.base_url}/v1", max_retries=0, http_client=shared)

        yield make


def ask(client: openai.OpenAI, **more: Any) -> Any:
    options: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 8, **more}
    return client.chat.completions.create(**options, extra_body={"ignore_eos": True})


def test_a_key_over_its_requests_waits_and_others_do_not(client_with: WithKey) -> None:
    few = client_with("few-key")
    for _ in range(2):
        ask(few)
    with pytest.raises(openai.RateLimitError, match="2 requests a minute") as caught:
        ask(few)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 30
    assert (caught.value.type, caught.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert few.models.list().data, "what costs nothing is not counted"
    ask(client_with(KEY))


def test_tokens_of_prompts_and_answers_count(client_with: WithKey) -> None:
    short = client_with("short-key")
    used = ask(short).usage.total_tokens
    assert used > 15
    with pytest.raises(openai.RateLimitError, match="15 tokens a minute"):
        short.embeddings.create(model="tiny", input="5")


def test_a_revoked_key_opens_nothing_within_ten_seconds(client_with: WithKey, home: Path) -> None:
    leaked = client_with("leaked-key")
    ask(leaked)
    content = json.loads((home / "serving.json").read_text())
    kept = [key for key in content["keys"] if key["id"] != "leaked"]
    write_atomic(home / "serving.json", json.dumps({**content, "keys": kept}))

    def refused() -> bool:
        try:
            ask(leaked)
        except openai.AuthenticationError:
            return True
        return False

    wait_until(refused, seconds=10)
    ask(client_with(KEY))


def test_chats_are_kept_of_keys_with_consent_only(client_with: WithKey, home: Path) -> None:
    ask(client_with(KEY))
    client = client_with("open-key")
    answer = ask(client, n=2)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in ask(client, stream=True))
    whole = client.completions.create(model="tiny", prompt=["5 plus", [20, 30]], max_tokens=3, temperature=0)
    client.embeddings.create(model="tiny", input="5")
    path = home / "chats.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["key"] for row in rows} == {"open"}
    chat, stream, completion = rows
    assert chat["messages"] == stream["messages"] == QUESTION
    assert [row["text"] for row in chat["answers"]] == [choice.message.content for choice in answer.choices]
    assert [row["finish_reason"] for row in chat["answers"]] == ["length", "length"]
    assert stream["answers"][0]["text"] == streamed
    assert completion["prompts"] == ["5 plus", tiny.tokenizer().decode([20, 30])]
    assert [row["text"] for row in completion["answers"]] == [choice.text for choice in whole.choices]
    assert path.stat().st_mode & 0o077 == 0, "only the owner of the process reads them"


def test_the_file_of_chats_is_turned_over(tmp_path: Path) -> None:
    log = ChatLog(tmp_path / "chats.jsonl", max_bytes=1_000)
    for number in range(100):
        log.append("k", "m", {"prompts": [str(number)]}, [Kept("an answer", "stop")])
    files = [tmp_path / "chats.1.jsonl", tmp_path / "chats.jsonl"]
    assert all(file.stat().st_size < 1_200 for file in files)
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    numbers = [int(row["prompts"][0]) for row in rows]
    assert numbers == list(range(numbers[0], 100)), "the newest, none lost between the files"


# -- clients that do not read ----------------------------------------------------------------------------------------


def test_a_client_that_does_not_read_is_let_go_and_stalls_nobody(http: httpx.Client, client_with: WithKey) -> None:
    """Its answer is longer than what the connection and the allowance of unread events hold."""
    body: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "max_tokens": 11_000, "ignore_eos": True}
    body |= {"stream": True, "logprobs": True, "top_logprobs": 20}
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((http.base_url.host, http.base_url.port or 0))
        connection.sendall(head.encode() + content)
        wait_until(lambda: running(http) == 1)
        ask(client_with(KEY))
        wait_until(lambda: running(http) == 0)
        received = b""
        while b"too slowly" not in received[-4096:]:
            part = connection.recv(65_536)
            assert part, "it is told why"
            received += part
    assert received.count(b"data: ") < 11_000


def running(http: httpx.Client) -> float:
    lines = http.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("octavo_batch_requests{"))

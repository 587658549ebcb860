"""The endpoint as clients meet it: a real process, the official client, every refusal naming its cause."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serving.loader import load_export
from serving.protocol import ChatCompletionRequest
from serving.settings import Settings
from tests.serving.world import (
    KEY,
    Mailbox,
    endpoint,
    exported,
    request,
    text_of,
    version_of,
    wait_until,
    write_serving_file,
)
from tests.trainer import tiny
from trainer.data.tokenizer import Tokenizer
from trainer.spec import Message

CONTEXT = 64
QUESTION = [{"role": "user", "content": "1 plus 2"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def export(home: Path) -> Path:
    return exported(home)


@pytest.fixture(scope="module")
def http(home: Path, export: Path) -> Iterator[httpx.Client]:
    write_serving_file(home, {"tiny": export})
    with endpoint(home) as client:
        yield client


@pytest.fixture(scope="module")
def client(http: httpx.Client) -> Iterator[openai.OpenAI]:
    with openai.DefaultHttpxClient(trust_env=False) as plain:
        yield openai.OpenAI(api_key=KEY, base_url=f"{http.base_url}/v1", max_retries=0, http_client=plain)


@pytest.fixture(scope="module")
def expected(export: Path) -> str:
    """The greedy answer to QUESTION, from an engine in this process."""
    served, mailbox = load_export(export, Settings(serving_kv_megabytes=8)), Mailbox()
    ids, _ = served.tokenizer.encode_chat([Message(**QUESTION[0])], add_generation_prompt=True)
    served.engine.submit(request("one", ids, max_tokens=20, ignore_end=True), mailbox.put)
    text = text_of(mailbox.answer())
    served.engine.abort()
    return text


# -- the official client ---------------------------------------------------------------------------------------------


def ask(client: openai.OpenAI, **more: Any) -> Any:
    options: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 20}
    return client.chat.completions.create(**{**options, "extra_body": {"ignore_eos": True}, **more})


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "tiny"
    assert client.models.retrieve("tiny").to_dict()["max_model_len"] == CONTEXT


def test_a_chat_answer_is_the_engines(client: openai.OpenAI, expected: str) -> None:
    answer = ask(client)
    assert answer.choices[0].message.content == expected
    assert answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(chat_ids()), 20)


def chat_ids() -> list[int]:
    messages = [Message(**QUESTION[0])]
    return tiny.tokenizer().encode_chat(messages, add_generation_prompt=True)[0]


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI, expected: str) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices[0].finish_reason] == ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == len(chat_ids()) + 20


def test_completions_take_text_or_the_same_as_ids(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "temperature": 0, "max_tokens": 8}
    of_text = client.completions.create(prompt="5 plus", **options)
    of_ids = client.completions.create(prompt=tiny.tokenizer().encode("5 plus"), **options)
    assert of_text.choices[0].text == of_ids.choices[0].text
    streamed = client.completions.create(prompt="5 plus", stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in streamed) == of_text.choices[0].text


def test_an_answer_stops_at_a_stop_string(client: openai.OpenAI, expected: str) -> None:
    stop = expected[3:5]
    answer = ask(client, stop=[stop])
    assert answer.choices[0].message.content == expected[: expected.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_logprobs_come_with_each_token(client: openai.OpenAI) -> None:
    entries = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(entries) == 20
    assert all(entry.logprob == entry.top_logprobs[0].logprob for entry in entries), "greedy takes the best"
    options: dict[str, Any] = {"model": "tiny", "prompt": "5", "max_tokens": 3, "logprobs": 2, "temperature": 0}
    listed = client.completions.create(**options, extra_body={"ignore_eos": True}).choices[0].logprobs
    assert listed is not None
    assert len(listed.tokens or ()) == len(listed.token_logprobs or ()) == 3


def test_a_seed_repeats_an_answer(client: openai.OpenAI) -> None:
    answers = [ask(client, temperature=1, seed=seed).choices[0].message.content for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]


def test_an_answer_ends_at_the_context(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=10_000)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens == CONTEXT


def test_many_at_once_get_the_answer_of_one(client: openai.OpenAI, expected: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(client).choices[0].message.content, range(32)))
    assert set(answers) == {expected}


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "param", "said"),
    [
        ({"tools": []}, "tools", "not supported"),
        ({"temprature": 1}, "temprature", "not supported"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"best_of": 2}, "best_of", "not supported"),
        ({"presence_penalty": 3}, "presence_penalty", "less than or equal to 2"),
        ({"logit_bias": {"9999": 1}}, "logit_bias", "9999"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "less than or equal to 100"),
        ({"logit_bias": {"five": 1}}, "logit_bias.five", "integer"),
        ({"seed": 2**80}, "seed", "less than"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"max_tokens": 0}, "max_tokens", "greater than 0"),
        ({"max_tokens": -5}, "max_tokens", "greater than 0"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role", "'user'"),
        ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name", "not supported"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"stop": [f"stop {i}" for i in range(10_000)]}, "stop", "at most 4"),
        ({"stop": "a" * 257}, "stop.0", "at most 256"),
        ({"guided_regex": "(a"}, "guided_regex", "unclosed group"),
        ({"guided_regex": "a" * 70_000}, "guided_regex", "65536"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "grammar"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex", "not both"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_object"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "needed"),
        ({"response_format": schema_format({"type": "wizard"})}, "response_format", "wizard"),
        ({"stop": [""]}, "stop", "empty"),
        ({"stream_options": {"continuous": True}}, "stream_options.continuous", "not supported"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream"),
        ({"top_logprobs": 3}, "top_logprobs", "logprobs"),
        ({"max_tokens": 3, "max_completion_tokens": 3}, "max_tokens", "not both"),
    ],
)
def test_a_wrong_field_is_named(http: httpx.Client, change: dict[str, Any], param: str, said: str) -> None:
    response = http.post("/v1/chat/completions", json={"model": "tiny", "messages": QUESTION, **change})
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert said in error["message"]


def test_one_wrong_message_is_said_once(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json={"model": "tiny", "messages": [{"role": "user"}]})
    assert response.json()["error"]["message"] == "'messages.0.content': Field required"


def test_null_means_unset_but_names_a_field_that_is_not_supported(http: httpx.Client) -> None:
    optional = [name for name, field in ChatCompletionRequest.model_fields.items() if not field.is_required()]
    body = {"model": "tiny", "messages": QUESTION, "max_tokens": 4} | dict.fromkeys(optional)
    assert http.post("/v1/chat/completions", json=body | {"max_tokens": 4}).status_code == 200
    assert http.post("/v1/chat/completions", json=body | {"tools": None}).json()["error"]["param"] == "tools"
    assert http.post("/v1/chat/completions", json=body | {"model": None}).json()["error"]["param"] == "model"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "empty"),
        ([], "empty"),
        ([9999], "9999"),
        ([-1], "-1"),
        (["a", ""], "empty"),
        (["a", [9999]], "9999"),
        (3, "text"),
        ([True], "text"),
        ([["a"]], "text"),
    ],
)
def test_a_wrong_prompt_is_explained(http: httpx.Client, prompt: Any, said: str) -> None:
    response = http.post("/v1/completions", json={"model": "tiny", "prompt": prompt})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "prompt")
    assert said in response.json()["error"]["message"]


def test_a_prompt_beyond_the_context_gets_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="tiny", prompt=[20] * 70)
    assert caught.value.code == "context_length_exceeded"
    assert "70" in caught.value.message
    assert str(CONTEXT) in caught.value.message


def test_an_unknown_model_lists_those_there_are(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="deployed: tiny"):
        ask(client, model="huge")


@pytest.mark.parametrize(
    ("header", "code"), [({"Authorization": "Bearer wrong"}, "invalid_api_key"), ({}, "missing_api_key")]
)
@pytest.mark.parametrize("path", ["/v1/models", "/deployments"])
def test_a_wrong_or_missing_key_is_401(http: httpx.Client, header: dict[str, str], code: str, path: str) -> None:
    response = httpx.get(f"{http.base_url}{path}", headers=header, trust_env=False)
    assert (response.status_code, response.json()["error"]["code"]) == (401, code)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"n": 100, "prompt": ["a"] * 11}, "n"),
    ],
)
def test_a_wrong_field_of_a_completion_is_named(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    response = http.post("/v1/completions", json={"model": "tiny", "prompt": "5", **change})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b'{"model": "tiny\xff"}', 400, "UTF-8"),
        (b'{"model": "tiny"', 400, "not JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"model": "tiny", "prompt": "\\ud800"}', 400, "prompt"),
        (b'{"model": "tiny", "prompt": "5", "\\ud800": 1}', 400, "unicode"),
        (b'{"model": "tiny", "prompt": "5", "temperature": NaN}', 400, "temperature"),
        (b'{"model": "tiny", "prompt": "5", "logit_bias": {"5": Infinity}}', 400, "logit_bias"),
        (b'{"model": "tiny", "prompt": "' + b"a" * 11_000_000 + b'"}', 413, "too large"),
    ],
)
def test_a_body_that_is_no_request_is_refused(http: httpx.Client, content: bytes, status: int, said: str) -> None:
    response = http.post("/v1/completions", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status
    assert said in response.json()["error"]["message"]
    assert ask_plainly(http) == 200, "others are answered as before"


def ask_plainly(http: httpx.Client) -> int:
    return http.post("/v1/completions", json={"model": "tiny", "prompt": "5", "max_tokens": 1}).status_code


def test_other_errors_have_the_same_shape(http: httpx.Client) -> None:
    for response in (http.get("/v1/nothing"), http.get("/v1/completions"), http.post("/v1/completions", content=b"{")):
        assert 400 <= response.status_code < 500
        assert response.json()["error"]["message"]
        assert response.json()["error"]["param"] is None


# -- operation -------------------------------------------------------------------------------------------------------


def gauge(http: httpx.Client, name: str) -> float:
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_usage_is_written_by_key_and_counted(http: httpx.Client, client: openai.OpenAI, home: Path) -> None:
    before = gauge(http, "octavo_completion_tokens_total")
    answer = ask(client)
    rows = [json.loads(line) for line in (home / "usage.jsonl").read_text().splitlines()]
    assert {name: rows[-1][name] for name in ("key", "model", "prompt_tokens", "completion_tokens")} == {
        "key": "tester", "model": "tiny", "prompt_tokens": answer.usage.prompt_tokens, "completion_tokens": 20,
    }  # fmt: skip
    assert gauge(http, "octavo_completion_tokens_total") == before + 20
    assert gauge(http, "octavo_time_to_first_token_seconds_count") > 0
    assert gauge(http, "octavo_inter_token_seconds_count") > 0


def test_the_engines_histograms_count_requests_and_steps(http: httpx.Client, client: openai.OpenAI) -> None:
    ask(client)  # what an engine observed comes with its steps
    names = ("octavo_queue_time_seconds", "octavo_batch_size", "octavo_kv_use_ratio")
    queued, steps, used = (gauge(http, f"{name}_count{{") for name in names)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask(client), range(4)))
    assert gauge(http, "octavo_queue_time_seconds_count{") == queued + 4
    assert 20 <= gauge(http, "octavo_batch_size_count{") - steps <= 80, "answers of 20 tokens, together or in turn"
    assert gauge(http, "octavo_kv_use_ratio_count{") - used == gauge(http, "octavo_batch_size_count{") - steps
    infinite = [line for line in http.get("/metrics").text.splitlines() if line.startswith("octavo_batch_size_bucket")][
        -1
    ]
    assert 'le="+Inf"' in infinite
    assert float(infinite.rpartition(" ")[2]) == gauge(http, "octavo_batch_size_count{")
    assert gauge(http, "octavo_kv_use_ratio_sum{") <= gauge(http, "octavo_kv_use_ratio_count{")


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    """An endpoint whose context is long enough for an answer that would run for minutes."""
    home = tmp_path_factory.mktemp("patient")
    write_serving_file(home, {"long": exported(home, config=tiny.config(max_position_embeddings=50_000))})
    with endpoint(home) as client:
        yield client, home


@pytest.mark.parametrize("more", [{"stream": True}, {"stream": False}, {"prompt": [[20], "5 plus"], "n": 3}])
def test_a_client_that_leaves_frees_its_blocks(patient: tuple[httpx.Client, Path], more: dict[str, Any]) -> None:
    http, home = patient
    body = {"model": "long", "prompt": [20] * 10, "max_tokens": 49_000, "ignore_eos": True, **more}
    with socket.create_connection((http.base_url.host, http.base_url.port or 0)) as connection:
        content = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        wait_until(lambda: gauge(http, "octavo_kv_blocks_used{") > 0)
    wait_until(lambda: gauge(http, "octavo_kv_blocks_used{") == 0)
    assert 'outcome="cancelled"' in http.get("/metrics").text
    row = json.loads((home / "usage.jsonl").read_text().splitlines()[-1])
    assert 0 <= row["completion_tokens"] < 49_000


def test_an_answer_that_takes_too_long_is_given_up(patient: tuple[httpx.Client, Path]) -> None:
    http, _ = patient
    body = {"model": "long", "prompt": [20] * 10, "max_tokens": 49_000, "ignore_eos": True, "timeout_seconds": 0.5}
    answer = http.post("/v1/completions", json=body | {"priority": 3})
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_exceeded"
    wait_until(lambda: gauge(http, "octavo_kv_blocks_used{") == 0)


def test_health_readiness_and_deployments(http: httpx.Client, export: Path) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json()["models"] == ["tiny"]
    [state] = http.get("/deployments").json()
    assert state.pop("gate")["served"]["max_difference"] <= 1e-4
    assert state == {
        "model_name": "tiny", "version": version_of(export), "export": str(export), "state": "ready", "error": None,
        "share": 1.0,
    }  # fmt: skip


def test_a_busy_port_is_one_sentence_at_once(http: httpx.Client, home: Path) -> None:
    port = str(http.base_url.port)
    run = subprocess.run(
        [sys.executable, "-m", "serving"], env={"OCTAVO_SERVING_PORT": port, "OCTAVO_HOME": str(home)}, text=True,
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert port in run.stderr
    assert "OCTAVO_SERVING_PORT" in run.stderr


def test_the_tokenizer_is_the_one_of_the_export(export: Path) -> None:
    assert Tokenizer.load(export).encode("7 plus 8") == tiny.tokenizer().encode("7 plus 8")

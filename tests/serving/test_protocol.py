"""What OpenAI's client can ask for, asked through it: several answers, echo, guided answers, embeddings, tokens."""

import base64
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import torch
from pydantic import BaseModel

from tests.serving.world import KEY, endpoint, exported, write_serving_file
from tests.trainer import tiny
from trainer.spec import Message

CONTEXT = 256
QUESTION: Any = [{"role": "user", "content": "1 plus 2"}]
SHAPE = tiny.config(max_position_embeddings=CONTEXT)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    home = tmp_path_factory.mktemp("home")
    write_serving_file(home, {"tiny": exported(home, config=SHAPE)})
    with endpoint(home) as client:
        yield client


@pytest.fixture(scope="module")
def client(http: httpx.Client) -> Iterator[openai.OpenAI]:
    with openai.DefaultHttpxClient(trust_env=False) as plain:
        yield openai.OpenAI(api_key=KEY, base_url=f"{http.base_url}/v1", max_retries=0, http_client=plain)


def complete(client: openai.OpenAI, prompt: Any, **more: Any) -> Any:
    options: dict[str, Any] = {"model": "tiny", "max_tokens": 8, "temperature": 0, **more}
    return client.completions.create(prompt=prompt, **options)


def texts(answer: Any) -> list[str]:
    assert [choice.index for choice in answer.choices] == list(range(len(answer.choices)))
    return [choice.text for choice in answer.choices]


# -- several answers -------------------------------------------------------------------------------------------------


def test_the_answers_to_one_prompt_are_those_to_the_seeds_in_a_row(client: openai.OpenAI) -> None:
    together = complete(client, "5 plus", n=3, seed=11, temperature=1)
    alone = [complete(client, "5 plus", seed=seed, temperature=1).choices[0].text for seed in (11, 12, 13)]
    assert texts(together) == alone
    assert len(set(alone)) > 1
    assert together.usage.prompt_tokens == len(tiny.tokenizer().encode("5 plus")), "a prompt counts once"


def test_prompts_of_either_kind_are_answered_like_each_by_itself(client: openai.OpenAI) -> None:
    ids = tiny.tokenizer().encode("7 plus 8")
    prompts = ["5 plus", ids, "says the"]
    together = complete(client, prompts, n=2)
    assert texts(together) == [text for prompt in prompts for text in texts(complete(client, prompt)) * 2]
    assert together.usage.prompt_tokens == sum(complete(client, prompt).usage.prompt_tokens for prompt in prompts)


def test_streams_of_several_answers_add_up(client: openai.OpenAI) -> None:
    chat: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "n": 3, "seed": 5, "max_tokens": 10}
    whole = client.chat.completions.create(**chat)
    parts, reasons = ["", "", ""], {}
    stream = client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    for chunk in chunks:
        for choice in chunk.choices:
            parts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert parts == [choice.message.content for choice in whole.choices]
    assert reasons == {choice.index: choice.finish_reason for choice in whole.choices}
    assert chunks[-1].usage == whole.usage


# -- echo and scores -------------------------------------------------------------------------------------------------


def network_logprobs(ids: list[int]) -> list[float]:
    """Of each token but the first."""
    model = tiny.network(SHAPE)
    with torch.inference_mode():
        logits_LV = model.logits(model(torch.tensor([ids])).hidden_BLD)[0, :-1, : tiny.tokenizer().vocab_size]
    return logits_LV.log_softmax(-1).gather(1, torch.tensor(ids[1:]).unsqueeze(1)).squeeze(1).tolist()


@pytest.mark.parametrize("max_tokens", [0, 1, 5])
@pytest.mark.parametrize("stream", [False, True])
def test_echo_scores_the_prompt_as_the_network_does(client: openai.OpenAI, max_tokens: int, stream: bool) -> None:
    """As evaluation harnesses ask for it: a continuation is scored within a prompt that is echoed."""
    ids = tiny.tokenizer().encode("7 plus 8 makes 15")
    more: dict[str, Any] = {"echo": True, "logprobs": 1, "max_tokens": max_tokens, "extra_body": {"ignore_eos": True}}
    answer = complete(client, ids, stream=stream, **more)
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    text = "".join(choice.text for choice in choices)
    assert text.startswith("7 plus 8 makes 15")
    tokens, scores, offsets, tops = (
        [value for choice in choices for value in getattr(choice.logprobs, name)]
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs")
    )
    assert len(tokens) == len(scores) == len(offsets) == len(tops) == len(ids) + max_tokens
    assert scores[0] is None
    assert tops[0] is None
    assert scores[1 : len(ids)] == pytest.approx(network_logprobs(ids), abs=1e-3)
    for token, score, top in zip(tokens[1:], scores[1:], tops[1:], strict=True):
        assert top[token] >= score, "the token itself is among those listed"
    if "".join(tokens) == text:  # no character is spread over tokens
        assert [text[at : at + len(token)] for at, token in zip(offsets, tokens, strict=True)] == tokens


def test_echo_alone_repeats_each_prompt(client: openai.OpenAI) -> None:
    prompts = ["5 plus", tiny.tokenizer().encode("7 plus")]
    assert texts(complete(client, prompts, echo=True)) == [
        before + after for before, after in zip(["5 plus", "7 plus"], texts(complete(client, prompts)), strict=True)
    ]


def test_bytes_of_a_token_that_is_part_of_a_character_are_its_own(client: openai.OpenAI) -> None:
    bias: Any = {str(token): 100 for token in tiny.tokenizer().encode("名")[:1]}
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, max_tokens=1, logprobs=True, temperature=0, logit_bias=bias
    )
    (entry,) = answer.choices[0].logprobs.content or ()
    assert entry.bytes == ["名".encode()[0]]


def test_bias_and_penalties_arrive(client: openai.OpenAI) -> None:
    (a,) = tiny.tokenizer().encode("a")
    forced = complete(client, "5", logit_bias={str(a): 100}, max_tokens=6)
    assert texts(forced) == ["aaaaaa"]
    penalised = complete(client, "5", logit_bias={str(a): 3}, frequency_penalty=2, max_tokens=6)
    assert texts(penalised) != texts(complete(client, "5", logit_bias={str(a): 3}, max_tokens=6))


# -- guided ----------------------------------------------------------------------------------------------------------


class Sum(BaseModel):
    is_even: bool
    digits: int


def test_a_parsed_answer_is_of_the_class_asked_for(client: openai.OpenAI) -> None:
    """The client makes the schema of the class."""
    for seed in range(3):
        answer = client.chat.completions.parse(
            model="tiny", messages=QUESTION, response_format=Sum, seed=seed, max_tokens=120
        )
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(answer.choices[0].message.parsed, Sum)


def test_json_objects_and_expressions(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "max_tokens": 200, "n": 4, "seed": 0}
    for choice in client.chat.completions.create(**options, response_format={"type": "json_object"}).choices:
        assert choice.message.content.startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
    for choice in client.chat.completions.create(**options, extra_body={"guided_regex": "(yes|no){1,3}"}).choices:
        assert re.fullmatch("(yes|no){1,3}", choice.message.content)
    plain = client.chat.completions.create(**options, response_format={"type": "text"})
    assert plain.choices[0].message.content == client.chat.completions.create(**options).choices[0].message.content


# -- embeddings ------------------------------------------------------------------------------------------------------


def test_embeddings_are_the_networks_mean_states(client: openai.OpenAI, http: httpx.Client) -> None:
    ids = tiny.tokenizer().encode("7 plus 8")
    answer = client.embeddings.create(
        model="tiny", input=["5 plus", "7 plus 8"]
    )  # as base64, which the client asks for
    with torch.inference_mode():
        mean_D = tiny.network(SHAPE)(torch.tensor([ids])).hidden_BLD[0].mean(dim=0)
    expected = (mean_D / mean_D.norm()).tolist()
    assert answer.data[1].embedding == pytest.approx(expected, abs=1e-4)
    assert answer.usage.prompt_tokens == len(ids) + len(tiny.tokenizer().encode("5 plus"))
    of_ids = client.embeddings.create(model="tiny", input=ids, encoding_format="float").data[0].embedding
    assert of_ids == pytest.approx(expected, abs=1e-4)
    raw = http.post("/v1/embeddings", json={"model": "tiny", "input": "7 plus 8", "encoding_format": "base64"}).json()
    decoded = base64.b64decode(raw["data"][0]["embedding"])
    assert struct.unpack(f"<{len(expected)}f", decoded) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"dimensions": 8}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"input": ""}, "input"),
        ({"input": [9999]}, "input"),
        ({"input": [20] * (CONTEXT + 1)}, "input"),
    ],
)
def test_a_wrong_field_of_an_embedding_is_named(http: httpx.Client, change: dict[str, Any], param: str) -> None:
    response = http.post("/v1/embeddings", json={"model": "tiny", "input": "5", **change})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_text_as_long_as_the_context_has_an_embedding(http: httpx.Client) -> None:
    assert http.post("/v1/embeddings", json={"model": "tiny", "input": [20] * CONTEXT}).status_code == 200


# -- tokens ----------------------------------------------------------------------------------------------------------


def test_tokens_are_those_that_completions_read(http: httpx.Client) -> None:
    found = http.post("/tokenize", json={"model": "tiny", "prompt": "7 plus 8"}).json()
    ids = tiny.tokenizer().encode("7 plus 8")
    assert found == {"tokens": ids, "count": len(ids), "max_model_len": CONTEXT}
    assert http.post("/detokenize", json={"tokens": ids}).json() == {"prompt": "7 plus 8"}
    chat = http.post("/tokenize", json={"messages": QUESTION}).json()["tokens"]
    assert chat == tiny.tokenizer().encode_chat([Message(**QUESTION[0])], add_generation_prompt=True)[0]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tokenize", {"prompt": "x", "messages": QUESTION}, 400),
        ("/tokenize", {"prompt": "x", "model": "huge"}, 404),
        ("/detokenize", {"tokens": [9999]}, 400),
        ("/detokenize", {"tokens": ["a"]}, 400),
    ],
)
def test_wrong_tokens_are_refused(http: httpx.Client, path: str, body: dict[str, Any], status: int) -> None:
    response = http.post(path, json=body)
    assert response.status_code == status
    assert response.json()["error"]["message"]

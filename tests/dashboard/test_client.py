import socket
from contextlib import closing

import pytest

from dashboard.client import Client, ClientError
from dashboard.schemas import Latency, Message, Sampling
from tests.dashboard.contract import KEY, NOW, Platform

QUESTION = (Message(role="user", content="What is 40 + 2?"),)


def test_a_wrong_key_is_said_in_the_backends_words(url: str) -> None:
    with pytest.raises(ClientError, match="ask an administrator") as caught:
        Client(url, url, "wrong").me()
    assert caught.value.status == 401


def test_nobody_there_names_the_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ClientError, match=f"backend at {address} cannot be reached") as caught:
            Client(address, address, KEY).me()
    assert caught.value.status is None


def test_an_answer_of_another_shape_names_the_field(client: Client, platform: Platform) -> None:
    del platform.jobs["pipe1-sft"]["state"]
    with pytest.raises(ClientError, match=r"GET /jobs/pipe1-sft .*state: Field required"):
        client.job("pipe1-sft")


def test_an_error_that_is_not_ours_gives_status_and_address(client: Client) -> None:
    with pytest.raises(ClientError, match=f"{client.backend.url} answered 404 Not Found"):
        client.backend.request("GET", "/nowhere")


def test_metrics_are_asked_for_from_where_the_last_answer_ended(client: Client) -> None:
    first = client.metrics("pipe1-rlhf", 0)
    second = client.metrics("pipe1-rlhf", first.next)
    assert [row.step for row in first.rows + second.rows] == list(range(1, 41))
    assert client.metrics("pipe1-rlhf", second.next).rows == ()


def test_no_pair_left_is_none(client: Client, platform: Platform) -> None:
    assert client.next_pair() is not None
    platform.pairs = []
    assert client.next_pair() is None


def test_a_streamed_answer_ends_with_reason_and_usage(client: Client, platform: Platform) -> None:
    deltas = list(client.chat("octavo-nano", QUESTION, Sampling(seed=7)))
    assert "".join(delta.text for delta in deltas).endswith("</think>The answer is 42.")
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    usage = deltas[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 23
    assert platform.chats[0]["seed"] == 7
    assert platform.chats[0]["stream_options"] == {"include_usage": True}


def test_leaving_a_stream_closes_the_connection(client: Client, platform: Platform) -> None:
    platform.slow_tokens = True
    with closing(client.chat("octavo-nano", QUESTION, Sampling())) as deltas:
        next(deltas)
    assert platform.stream_closed.wait(timeout=5)


def test_a_refused_chat_is_said_in_servings_words(client: Client, platform: Platform) -> None:
    platform.refuse["/v1/chat/completions"] = (400, "The prompt has 300 tokens, but the context holds 256.")
    with pytest.raises(ClientError, match="300 tokens, but the context holds 256"):
        list(client.chat("octavo-nano", QUESTION, Sampling()))


def test_times_come_as_numbers(client: Client) -> None:
    assert client.pipeline("pipe1").jobs[0].created == pytest.approx(NOW - 900)


def test_a_quantile_lies_where_a_histogram_has_it() -> None:
    latency = Latency(bounds=(0.1, 0.2, 0.4, None), counts=(1, 0, 2, 1))
    assert latency.quantile(0.25) == pytest.approx(0.1)
    assert latency.quantile(0.5) == pytest.approx(0.3)
    assert latency.quantile(0.99) == 0.4, "beyond the last bound there is nothing to interpolate with"
    assert Latency(bounds=(0.1, None), counts=(0, 0)).quantile(0.5) is None
    shares = [latency.quantile(share / 20) or 0.0 for share in range(1, 21)]
    assert shares == sorted(shares)

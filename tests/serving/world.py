"""Small real parts for serving: a checkpoint, its export, a home with keys, the endpoint as a process."""

import hashlib
import json
import os
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch

from serving.engine import Limits, TorchEngine
from serving.export.__main__ import main as export_main
from serving.request import Delta, Event, Failure, Request, SamplingParams
from serving.runner import Runner
from tests.trainer import tiny
from trainer.artifacts import RunFolder, new_folder, write_atomic
from trainer.model.config import ModelConfig
from trainer.model.mixtral import save_weights
from trainer.model.transformer import Transformer

KEY = "test-key"
LIMITS = Limits(max_batch_tokens=24, max_sequences=8, num_blocks=64, block_size=4)


def checkpoint_run(path: Path, seed: int = 0, config: ModelConfig | None = None) -> RunFolder:
    """The run folder of a training job that left one checkpoint."""
    folder, model = RunFolder(path), tiny.network(config, seed=seed)
    with new_folder(folder.checkpoints / "step_000010") as target:
        save_weights(target, model.config, model.state_dict(), tiny.tokenizer())
    return folder


def export_run(
    path: Path, source: RunFolder, inputs: dict[str, RunFolder] | None = None, **spec: Any
) -> tuple[int, RunFolder]:
    """Run an export job in this process; its exit status and folder."""
    bound = {"checkpoint": source, **(inputs or {})}
    run = tiny.new_run(path, {"kind": "export", "name": "export", **spec}, bound)
    return export_main([str(path)]), run.folder


def error_of(run: RunFolder) -> str:
    """Why a job failed."""
    state = run.status()
    assert state is not None
    assert state.state == "failed"
    return state.error or ""


def exported(folder: Path, seed: int = 0, config: ModelConfig | None = None) -> Path:
    """The export of a random network."""
    status, run = export_run(folder / "export-run", checkpoint_run(folder / "training-run", seed, config))
    assert status == 0
    return run.artifact("export")


def engine(model: Transformer, limits: Limits = LIMITS) -> TorchEngine:
    return TorchEngine(Runner(model, limits.num_blocks, limits.block_size), tiny.tokenizer(), limits).start()


def request(name: str, prompt: Sequence[int], **params: Any) -> Request:
    return Request(name, tuple(prompt), SamplingParams(**{"max_tokens": 12, "temperature": 0.0, **params}))


@dataclass
class Mailbox:
    """Collects what an engine emits for one request."""

    events: "queue.SimpleQueue[Event]" = field(default_factory=queue.SimpleQueue)

    def put(self, event: Event) -> None:
        self.events.put(event)

    def answer(self, timeout: float = 30) -> list[Delta]:
        """All deltas up to the end; a failure is raised."""
        deltas: list[Delta] = []
        while not deltas or deltas[-1].finish_reason is None:
            event = self.events.get(timeout=timeout)
            if isinstance(event, Failure):
                raise RuntimeError(event.message)
            deltas.append(event)
        return deltas


def tokens_of(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.tokens]


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@torch.inference_mode()
def slow_greedy(model: Transformer, prompt: Sequence[int], max_tokens: int, end_id: int) -> list[int]:
    """The obvious reference: the whole sequence anew for every token."""
    tokens = list(prompt)
    for _ in range(max_tokens):
        hidden_BLD = model(torch.tensor([tokens])).hidden_BLD
        scores_V = model.logits(hidden_BLD)[0, -1, : tiny.tokenizer().vocab_size]
        tokens.append(int(scores_V.argmax()))
        if tokens[-1] == end_id:
            break
    return tokens[len(prompt) :]


def key_entry(name: str, key: str, **more: Any) -> dict[str, Any]:
    """A key as serving.json has it."""
    return {"id": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), **more}


Versions = Mapping[str, tuple[Path, float]]


def write_serving_file(
    home: Path,
    deployments: Mapping[str, Path | Versions],
    version: int = 1,
    key: str = KEY,
    keys: Sequence[dict[str, Any]] = (),
) -> None:
    """`deployments`: model name -> the one export, or version id -> export and weight."""
    content = {
        "version": version,
        "deployments": [{"model_name": name, "versions": _versions(wanted)} for name, wanted in deployments.items()],
        "keys": list(keys) or [key_entry("tester", key)],
    }
    write_atomic(home / "serving.json", json.dumps(content))


def _versions(wanted: Path | Versions) -> list[dict[str, Any]]:
    if isinstance(wanted, Path):
        wanted = {version_of(wanted): (wanted, 1.0)}
    return [{"id": id, "export": str(path), "weight": weight} for id, (path, weight) in wanted.items()]


def version_of(export: Path) -> str:
    """An id for an export that is deployed without one."""
    return hashlib.sha256(str(export).encode()).hexdigest()[:12]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def endpoint(home: Path, **settings: str) -> Iterator[httpx.Client]:
    """`python -m serving` on a free port; yields a client that carries the key."""
    port = free_port()
    environment = {**os.environ, "OCTAVO_HOME": str(home), "OCTAVO_SERVING_PORT": str(port), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "serving"], env={**environment, **settings})
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {KEY}"}, timeout=30, trust_env=False
    )
    try:
        wait_until(lambda: _answers(client), process)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=30)


def wait_until(condition: Any, process: "subprocess.Popen[bytes] | None" = None, seconds: float = 60) -> None:
    """Poll a condition of another process, which has no event to wait for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "the endpoint ended"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False

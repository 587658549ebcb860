"""python -m benchmarks.speed.serving: output tokens/s over HTTP beside llama.cpp's server, vLLM and transformers.

All serve the same random weights of the preset `micro`, greedily, 128 tokens in and 64 out. In each round every engine
is started, warmed up and loaded with 1, 8 and 32 clients, one engine after the other; what counts is the ratio to the
best peer within a round. Peers live in environments of their own, see benchmarks/README.md; one that is not given is
left out.
"""

import argparse
import hashlib
import inspect
import json
import os
import pydoc
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.machine import commit, hardware, today
from benchmarks.speed.load import CLIENTS, NEW_TOKENS, PROMPT_TOKENS, Endpoint, Load, put_load
from serving.export.gguf import write_gguf
from serving.export.hugging_face import read_weights, write_export
from trainer.artifacts import new_folder, write_atomic
from trainer.data.tokenizer import Tokenizer
from trainer.model.mixtral import read_config, save_weights
from trainer.model.presets import preset
from trainer.model.transformer import Transformer
from trainer.spec import GgufNumbers

RESULTS = Path(__file__).parent.parent / "results" / "serving.json"
MODEL, KEY = "micro", "benchmark"
START_SECONDS = 300
OURS = {"octavo bf16": "bfloat16", "octavo int8": "int8"}
TRANSFORMERS = "transformers bf16"
PEERS = ("llama.cpp bf16", "vllm bf16", TRANSFORMERS)
BARS = {"octavo bf16": {1: 1.5, 8: 1.2, 32: 1.3}, "octavo int8": {1: 2.0, 8: 2.0, 32: 2.0}}
BATCHING_BAR = 4.0  # 32 at once over one at a time


@dataclass(frozen=True)
class Engine:
    """How an engine is started on a port."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = "/health"


@dataclass(frozen=True)
class Timing:
    """What one engine reached with so many clients in one round."""

    engine: str
    clients: int
    load: Load


def make_export(folder: Path) -> Path:
    """A random network of the preset, saved and exported as the platform does, in float32."""
    config = preset(MODEL)
    model = Transformer(config)
    model.reset_parameters(torch.Generator().manual_seed(0))
    with torch.no_grad():  # makes the likeliest token clear, as training does; the parity gate asks for that
        model.lm_head.weight.copy_(model.embed_tokens.weight.mul_(5))
    texts = [
        Path(module.__file__ or "").read_text()
        for module in (argparse, os, random, socket, subprocess, tempfile, inspect, typing, pydoc)
    ]
    with new_folder(folder / "checkpoint") as target:
        save_weights(target, config, model.state_dict(), Tokenizer.train(texts, config.vocab_size))
    with new_folder(folder / "export") as target:
        write_export(folder / "checkpoint", target, torch.float32, tolerance=1e-4)
    return folder / "export"


def make_gguf(folder: Path, export: Path, numbers: GgufNumbers) -> Path:
    """The same in llama.cpp's layout."""
    path = folder / f"{numbers}.gguf"
    write_gguf(path, read_config(export), read_weights(export, torch.float32), Tokenizer.load(export), numbers)
    return path


def engines(parsed: argparse.Namespace, folder: Path, export: Path, port: int) -> Iterator[Engine]:
    """Ours, and the peers that are installed."""
    home = folder / "home"
    home.mkdir()
    serving_file = {
        "version": 1,
        "deployments": [{"model_name": MODEL, "versions": [{"id": "benchmark", "export": str(export)}]}],
        "keys": [{"id": "benchmark", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
    }
    write_atomic(home / "serving.json", json.dumps(serving_file))
    for name, dtype in OURS.items():
        environment = {"OCTAVO_HOME": str(home), "OCTAVO_SERVING_PORT": str(port), "OCTAVO_SERVING_DTYPE": dtype}
        yield Engine(name, [sys.executable, "-m", "serving"], environment, "/readyz")
    if parsed.llama:
        names: tuple[GgufNumbers, ...] = ("bf16", "q8_0")
        for numbers in names:
            command = [
                parsed.llama, "-m", str(make_gguf(folder, export, numbers)), "-t", str(os.cpu_count()), "-np", "32",
                "-c", "16384", "--port", str(port), "--no-webui",
            ]  # fmt: skip
            yield Engine(f"llama.cpp {numbers}", command, {"LD_LIBRARY_PATH": str(Path(parsed.llama).parent)})
    if parsed.vllm:
        command = [
            parsed.vllm, "-m", "vllm.entrypoints.openai.api_server", "--model", str(export), "--dtype", "bfloat16",
            "--served-model-name", MODEL, "--port", str(port), "--max-model-len", "1024", "--max-num-seqs", "32",
        ]  # fmt: skip
        yield Engine("vllm bf16", command, {"VLLM_CPU_KVCACHE_SPACE": "2"})


@contextmanager
def running(engine: Engine, port: int, log: Path) -> Iterator[Endpoint]:
    """The engine as a process until the block ends.

    Raises:
        RuntimeError: it ended, or did not answer in time; names its log.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            engine.command,
            env={**os.environ, **engine.environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}{engine.ready}"):
            refused = engine.name in OURS and _refusal(f"http://127.0.0.1:{port}/deployments")
            if refused:
                raise RuntimeError(f"{engine.name} refused the weights: {refused}")
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{engine.name} did not start; its last words:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield Endpoint("127.0.0.1", port, MODEL, KEY)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _refusal(url: str) -> str | None:
    """Why our server does not load what it was given; nothing while it may yet."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return next((str(row["error"]) for row in json.load(answer) if row["state"] == "failed"), None)
    except OSError:
        return None


def prompts(generator: random.Random, count: int) -> list[list[int]]:
    """All different, so that no engine can reuse what it computed for another."""
    return [[generator.randrange(300, preset(MODEL).vocab_size) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def measure(endpoint: Endpoint, generator: random.Random) -> dict[int, Load]:
    """Each number of clients, after some that warm up."""
    put_load(endpoint, prompts(generator, 4), 4, NEW_TOKENS)
    found = {}
    for clients, requests in CLIENTS.items():
        put_load(endpoint, prompts(generator, clients), clients, NEW_TOKENS // 4)
        found[clients] = put_load(endpoint, prompts(generator, requests), clients, NEW_TOKENS)
    return found


def measure_transformers(export: Path) -> dict[int, Load]:
    """In a process of its own, whose environment has transformers: the tests' has."""
    command = [sys.executable, "-m", "benchmarks.speed.generate", str(export)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {int(clients): Load(**load) for clients, load in json.loads(output.splitlines()[-1]).items()}


def ratios(timings: list[Timing], ours: str, clients: int) -> list[float]:
    """Ours over the best bf16 peer, round by round."""
    mine = [t.load.tokens_per_second for t in timings if t.engine == ours and t.clients == clients]
    peers: dict[str, list[float]] = {}
    for timing in timings:
        if timing.engine in PEERS and timing.clients == clients:
            peers.setdefault(timing.engine, []).append(timing.load.tokens_per_second)
    return [own / max(peer) for own, *peer in zip(mine, *peers.values(), strict=True)] if peers else []


def report(timings: list[Timing]) -> list[str]:
    lines = [f"{'engine':<16}{'clients':>8}{'tokens/s':>10}{'first token, ms: median':>26}{'p99':>8}"]
    for engine in dict.fromkeys(timing.engine for timing in timings):
        for clients in CLIENTS:
            loads = [t.load for t in timings if (t.engine, t.clients) == (engine, clients)]
            speed, p50, p99 = (
                statistics.median(getattr(load, name) for load in loads)
                for name in ("tokens_per_second", "first_token_p50", "first_token_p99")
            )
            lines.append(f"{engine:<16}{clients:>8}{speed:>10.0f}{1e3 * p50:>26.0f}{1e3 * p99:>8.0f}")
    for ours, bars in BARS.items():
        for clients, bar in bars.items():
            if found := ratios(timings, ours, clients):
                lines.append(f"{ours}, {clients} at once over the best bf16 peer: {_judged(found, bar)}")
        lines.append(f"{ours}, 32 at once over one at a time: {_judged(batching(timings, ours), BATCHING_BAR)}")
    return lines


def batching(timings: list[Timing], engine: str) -> list[float]:
    """Tokens/s with 32 clients over that with one, round by round."""
    one, many = (
        [t.load.tokens_per_second for t in timings if (t.engine, t.clients) == (engine, clients)] for clients in (1, 32)
    )
    return [m / o for m, o in zip(many, one, strict=True)]


def _judged(found: list[float], bar: float) -> str:
    each, median = ", ".join(f"{ratio:.2f}" for ratio in found), statistics.median(found)
    return f"{median:.2f} times ({each}); bar {bar}: {'met' if median >= bar else 'not met'}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.serving")
    parser.add_argument("--llama", help="llama.cpp's llama-server")
    parser.add_argument("--vllm", help="python of an environment with vLLM")
    parser.add_argument("--transformers", action="store_true", help="its generate too; it must be installed here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    for option, path in (("--llama", parsed.llama), ("--vllm", parsed.vllm)):
        if path and not Path(path).is_file():
            parser.error(f"{option} {path}: there is no such file; python -m scripts.peers installs the peers")
    timings: list[Timing] = []
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        export = make_export(folder)
        arms = list(engines(parsed, folder, export, port))
        for number in range(parsed.rounds):
            generator = random.Random(number)
            for engine in arms:
                with running(engine, port, folder / "log.txt") as endpoint:
                    timings += _noted(number, engine.name, measure(endpoint, generator))
            if parsed.transformers:
                timings += _noted(number, TRANSFORMERS, measure_transformers(export))
    print("\n".join(report(timings)))
    described = {
        "date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent),
        "timings": [asdict(timing) for timing in timings],
    }  # fmt: skip
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")
    print(f"kept in {parsed.results}")
    return 0


def _noted(number: int, engine: str, found: dict[int, Load]) -> list[Timing]:
    shown = ", ".join(f"{clients}: {load.tokens_per_second:.0f}" for clients, load in found.items())
    print(f"round {number + 1}, {engine}: {shown} tokens/s", file=sys.stderr, flush=True)
    return [Timing(engine, clients, load) for clients, load in found.items()]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.speed.training: training steps beside those of transformers' Mixtral, on this machine.

Both sides train the same shape with the same optimizer on the same tokens in bf16. Every arm is a process of its own;
arms take turns in rounds, so that all of them meet the same neighbours, and what counts is the ratio within a round.
The peer is the fastest of transformers' ways to run experts, compiled or not. "batched_mm" is left out: it copies each
token's experts, and one step of it takes more than 24 GB.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.machine import commit, hardware, today
from trainer.artifacts import write_atomic
from trainer.engine.compilation import compile_blocks
from trainer.engine.meter import measured_peak, peak_memory
from trainer.engine.precision import MasterOptimizer
from trainer.flops import training_flops
from trainer.memory import keep_freed_memory
from trainer.model.config import ModelConfig
from trainer.model.presets import preset
from trainer.model.transformer import Transformer
from trainer.objectives import chunked_cross_entropy
from trainer.spec import Optimizer

RESULTS = Path(__file__).parent.parent / "results" / "training.json"
SHAPES = {"micro": (8, 512), "nano": (16, 256)}  # preset -> rows, tokens a row
OURS = ("octavo compiled", "octavo eager")
PEERS = tuple(f"transformers {experts}{how}" for experts in ("grouped_mm", "eager") for how in (" compiled", ""))
WARM, STEPS = 2, 5
CPU = torch.device("cpu")

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Timing:
    """What one arm reached in one round; `seconds` is the median step."""

    arm: str
    seconds: float
    tokens_per_second: float
    mfu: float
    peak_memory_mb: float


def ours(config: ModelConfig, compiled: bool) -> tuple[nn.Module, Loss]:
    keep_freed_memory()  # as the stage does
    model = Transformer(config)
    model.reset_parameters(torch.Generator().manual_seed(0))
    model = model.bfloat16().train()
    cross_entropy = compile_blocks(model) if compiled else chunked_cross_entropy

    def loss(tokens_BL: Tensor) -> Tensor:
        hidden_TD = model(tokens_BL).hidden_BLD.flatten(0, 1)
        mask_T = torch.ones(len(hidden_TD), dtype=torch.bool)
        return cross_entropy(hidden_TD, model.lm_head.weight, tokens_BL.roll(-1, dims=1).flatten(), mask_T)

    return model, loss


def peer(config: ModelConfig, experts: str, compiled: bool) -> tuple[nn.Module, Loss]:
    from transformers import MixtralConfig, MixtralForCausalLM

    theirs = MixtralConfig(**config.model_dump())
    how = {"attn_implementation": "sdpa", "experts_implementation": experts}
    model = MixtralForCausalLM._from_config(theirs, **how).bfloat16().train()  # type: ignore[no-untyped-call]
    forward = torch.compile(model) if compiled else model

    def loss(tokens_BL: Tensor) -> Tensor:
        found: Tensor = forward(input_ids=tokens_BL, labels=tokens_BL, use_cache=False).loss
        return found

    return model, loss


def run_arm(arm: str, shape: str) -> Timing:
    """Train some steps in this process."""
    torch.manual_seed(0)
    (rows, length), config = SHAPES[shape], preset(shape)
    side, *how = arm.split()
    compiled = "compiled" in how
    model, loss = ours(config, compiled) if side == "octavo" else peer(config, how[0], compiled)
    optimizer = MasterOptimizer(model, Optimizer(lr=1e-4))
    tokens_BL = torch.randint(config.vocab_size, (rows, length))
    seconds = []
    for _ in range(WARM + STEPS):
        began = time.perf_counter()
        loss(tokens_BL).backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-4)
        seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds[WARM:])
    peak = measured_peak(rows * length, config.hidden_size, 2 * config.intermediate_size, torch.bfloat16, CPU)
    return Timing(
        arm=arm,
        seconds=median,
        tokens_per_second=rows * length / median,
        mfu=training_flops(config, rows, length) / median / peak,
        peak_memory_mb=peak_memory(CPU) / 2**20,
    )


def in_a_process(arm: str, shape: str) -> Timing:
    command = [sys.executable, "-m", "benchmarks.speed.training", "--shape", shape, "--arm", arm]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"arm '{arm}' failed: {done.stderr.strip().splitlines()[-1]}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def compare(shape: str, rounds: int) -> dict[str, object]:
    """Find the fastest peer in one round over all, then let it and ours take turns."""
    timings = [in_a_process(arm, shape) for arm in (*OURS, *PEERS)]
    for timing in timings:
        print(described(timing), flush=True)
    best = max(timings[len(OURS) :], key=lambda timing: timing.tokens_per_second).arm
    mine = max(timings[: len(OURS)], key=lambda timing: timing.tokens_per_second).arm
    ratios, memory = [], []
    for number in range(rounds):
        ourselves, other = in_a_process(mine, shape), in_a_process(best, shape)
        ratios.append(ourselves.tokens_per_second / other.tokens_per_second)
        memory.append(ourselves.peak_memory_mb / other.peak_memory_mb)
        print(f"round {number + 1}\n{described(ourselves)}\n{described(other)}\nratio {ratios[-1]:.2f}", flush=True)
        timings += [ourselves, other]
    print(f"{shape}: {mine} is {statistics.median(ratios):.2f} times as fast as {best}, median of {rounds} rounds")
    print(f"peak memory {statistics.median(memory):.2f} times theirs")
    return {
        "ours": mine, "peer": best, "ratio": statistics.median(ratios), "ratios": ratios,
        "memory_ratio": statistics.median(memory), "timings": [asdict(timing) for timing in timings],
    }  # fmt: skip


def described(timing: Timing) -> str:
    return (
        f"{timing.arm:<34} {timing.tokens_per_second:>8,.0f} tokens/s   MFU {timing.mfu:>4.0%}   "
        f"{timing.peak_memory_mb:>6,.0f} MB"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.training")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="by default all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--arm", choices=(*OURS, *PEERS), help="only this one, in this process, as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file the figures are written to")
    parsed = parser.parse_args(arguments)
    shapes = parsed.shape or list(SHAPES)
    if parsed.arm:
        print(json.dumps(asdict(run_arm(parsed.arm, shapes[0]))))
        return 0
    where = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent)}
    found = {shape: compare(shape, parsed.rounds) for shape in shapes}
    write_atomic(parsed.results, json.dumps({**where, "shapes": found}, indent=1) + "\n")
    print(f"kept in {parsed.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.speed.gpu: what the network does on one GPU, everything in one call.

    products         FP8 products against their dequantised factors: the error must be rounding
    bf16             training step of the preset `small`: tokens/s, MFU, memory, share of the time a kernel runs
    bf16-compiled    the same with torch.compile
    fp8-compiled     the same in fp8
    layer            a product and a Mixtral layer, 4096 wide, forward and backward: fp8 against bf16
    layer-compiled   the same with torch.compile, without which rounding to FP8 costs more than its products save
    loss             held-out loss after 500 steps on the standard library's text: fp8 against bf16
    long             sliding window of 1,024: training and prefill of 4K and of 64K tokens, time per token

Each part is a process of its own, so that one that fails or runs out of memory leaves the others. It needs torch (2.11
or later), numpy, psutil and pydantic, nothing else of what the platform installs. `--tiny` runs every part in seconds,
on a CPU too; what only a GPU can tell then says "needs CUDA".
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.machine import commit, hardware, today
from trainer.artifacts import write_atomic
from trainer.devices import find_gpu
from trainer.engine.precision import MasterOptimizer, pick_device, place
from trainer.flops import training_flops
from trainer.model.attention import rotary_tables
from trainer.model.config import ModelConfig
from trainer.model.fp8 import VALUES, Fp8Linear, grouped_mm, quantise
from trainer.model.moe import padding
from trainer.model.presets import preset
from trainer.model.transformer import Transformer
from trainer.objectives import chunked_cross_entropy, router_balance_loss
from trainer.spec import Optimizer, Precision

Figures = dict[str, float | str]

RESULTS = Path(__file__).parent.parent / "results" / "gpu.json"
NEEDS_CUDA = "needs CUDA"
WARM, REPEATS = 3, 10
BALANCE = 0.01
BYTES = 256  # the vocabulary of text read as bytes


@dataclass(frozen=True)
class Sizes:
    """How large each part is; rows x length are a step's tokens."""

    training: ModelConfig
    training_rows: int
    training_length: int
    layer: ModelConfig
    layer_rows: int
    layer_length: int
    loss: ModelConfig
    loss_rows: int
    loss_steps: int
    long: ModelConfig
    lengths: tuple[int, int]


def changed(config: ModelConfig, **changes: int | None) -> ModelConfig:
    return ModelConfig(**{**config.model_dump(), **changes})


def full_sizes() -> Sizes:
    small = preset("small")
    return Sizes(
        training=small, training_rows=8, training_length=2048,
        layer=changed(preset("mixtral-8x7b"), num_hidden_layers=1), layer_rows=4, layer_length=2048,
        loss=changed(
            small, vocab_size=BYTES, hidden_size=1024, num_hidden_layers=8, num_attention_heads=16,
            intermediate_size=1024, max_position_embeddings=1024, sliding_window=None,
        ), loss_rows=16, loss_steps=500,
        long=changed(small, sliding_window=1024), lengths=(4096, 65536),
    )  # fmt: skip


def tiny_sizes() -> Sizes:
    tiny = changed(
        preset("nano"), vocab_size=BYTES, hidden_size=64, num_hidden_layers=2, intermediate_size=32,
        max_position_embeddings=128,
    )  # fmt: skip
    return Sizes(
        training=tiny, training_rows=2, training_length=32, layer=changed(tiny, num_hidden_layers=1), layer_rows=2,
        layer_length=32, loss=changed(tiny, max_position_embeddings=32), loss_rows=4, loss_steps=20,
        long=changed(tiny, sliding_window=16), lengths=(32, 128),
    )  # fmt: skip


# -- what the parts share --------------------------------------------------------------------------------------------


def seconds(action: Callable[[], object], device: torch.device) -> float:
    """Median of some runs after some that warm up; a GPU's queue is empty before and after each."""
    times = []
    for _ in range(WARM + REPEATS):
        wait(device)
        began = time.perf_counter()
        action()
        wait(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM:])


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def new_model(config: ModelConfig, precision: Precision, device: torch.device) -> Transformer:
    """Made on the device: a billion random numbers take long elsewhere."""
    with device:
        model = Transformer(config)
    model.reset_parameters(torch.Generator(device).manual_seed(0))
    return place(model, precision, device)


class Trainer:
    """Steps of a network on rows of tokens."""

    def __init__(self, model: Transformer, compiled: bool = False, lr: float = 3e-4) -> None:
        self.model, self.lr, self.done = model, lr, 0
        self.optimizer = MasterOptimizer(model, Optimizer(lr=lr))
        self.cross_entropy = chunked_cross_entropy
        if compiled:
            for block in model.layers:
                block.compile(dynamic=False)
            self.cross_entropy = torch.compile(chunked_cross_entropy, dynamic=False)

    def loss(self, tokens_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the next tokens, and with the load-balance loss."""
        output = self.model(tokens_BL)
        counted_BL = torch.ones_like(tokens_BL, dtype=torch.bool)
        counted_BL[:, -1] = False
        targets_T, hidden_TD = tokens_BL.roll(-1, dims=1).flatten(), output.hidden_BLD.flatten(0, 1)
        loss = self.cross_entropy(hidden_TD, self.model.lm_head.weight, targets_T, counted_BL.flatten())
        top_k = self.model.config.num_experts_per_tok
        balance = torch.stack([router_balance_loss(x_TE, top_k) for x_TE in output.router_logits_TE]).mean()
        return loss, loss + BALANCE * balance

    def step(self, tokens_BL: Tensor) -> None:
        self.loss(tokens_BL)[1].backward()  # type: ignore[no-untyped-call]
        self.done += 1
        norm = self.optimizer.step(self.lr * min(1.0, self.done / 20))
        assert math.isfinite(norm), f"the gradient of step {self.done} is not finite"


def random_tokens(config: ModelConfig, rows: int, length: int, device: torch.device) -> Tensor:
    return torch.randint(config.vocab_size, (rows, length), device=device)


# -- the parts -------------------------------------------------------------------------------------------------------


def products(sizes: Sizes, device: torch.device) -> Figures:
    """Relative distance of FP8 products from those of the dequantised factors in float32, one expert being idle."""
    D, width = sizes.layer.hidden_size, sizes.layer.intermediate_size
    multiple, _ = padding(64 * 4, 4)
    x_TD = torch.randn(multiple * 4, D, device=device, dtype=torch.bfloat16)
    w_EFD = torch.randn(4, width, D, device=device, dtype=torch.bfloat16)
    ends_E = torch.tensor([multiple, multiple, 3 * multiple, 4 * multiple], dtype=torch.int32, device=device)
    x8, w8 = quantise(x_TD, VALUES), quantise(w_EFD, VALUES)
    x, w = x8.values.float() * x8.scale, w8.values.float() * w8.scale
    starts = [0, *ends_E.tolist()[:-1]]
    grouped = torch.cat([x[a:b] @ w[e].T for e, (a, b) in enumerate(zip(starts, ends_E.tolist(), strict=True))])
    linear = Fp8Linear(D, width, bias=False, device="meta")
    linear.weight = nn.Parameter(w_EFD[0])
    found = {"linear": (linear(x_TD), x @ w[0].T), "grouped": (grouped_mm(x_TD, w_EFD.mT, offs=ends_E), grouped)}
    return {f"error of {name}": ((a.float() - b).norm() / b.norm()).item() for name, (a, b) in found.items()}


def training(sizes: Sizes, device: torch.device, precision: Precision, compiled: bool) -> Figures:
    """Training steps of the network; MFU counts against the data sheet's bf16 peak, for fp8 too."""
    if compiled and device.type != "cuda":
        return {"tokens/s": NEEDS_CUDA}
    trainer = Trainer(new_model(sizes.training, precision, device), compiled)
    tokens_BL = random_tokens(sizes.training, sizes.training_rows, sizes.training_length, device)
    spent = seconds(partial(trainer.step, tokens_BL), device)
    return {"tokens/s": tokens_BL.numel() / spent, **on_gpu(sizes, trainer, tokens_BL, spent)}


def on_gpu(sizes: Sizes, trainer: Trainer, tokens_BL: Tensor, spent: float) -> Figures:
    """Share of the peak, share of the time that a kernel runs, and memory."""
    if tokens_BL.device.type != "cuda":
        return {"MFU, %": NEEDS_CUDA, "GPU busy, %": NEEDS_CUDA, "memory, GB": NEEDS_CUDA}
    gpu = find_gpu(torch.cuda.get_device_name())
    flops = training_flops(sizes.training, *tokens_BL.shape)
    mfu = "the card is not in trainer/devices.py" if gpu is None else 100 * flops / spent / gpu.bf16
    busy = gpu_busy(partial(trainer.step, tokens_BL))
    return {"MFU, %": mfu, "GPU busy, %": busy, "memory, GB": torch.cuda.max_memory_allocated() / 1e9}


def gpu_busy(step: Callable[[], None]) -> float | str:
    if find_spec("pynvml") is None:
        return "needs nvidia-ml-py"
    samples = []
    for _ in range(3 * REPEATS):
        step()
        samples.append(torch.cuda.utilization())
    return statistics.fmean(samples[REPEATS:])


def layer(sizes: Sizes, device: torch.device, compiled: bool) -> Figures:
    """Forward and backward of one product, D wide, and of one layer of attention and experts."""
    if compiled and device.type != "cuda":
        return {"fp8 is faster by": NEEDS_CUDA}
    config, rows, length = sizes.layer, sizes.layer_rows, sizes.layer_length
    D = config.hidden_size
    x_BLD = torch.randn(rows, length, D, device=device, dtype=torch.bfloat16, requires_grad=True)
    with device:
        linears: dict[str, nn.Module] = {
            "bf16": nn.Linear(D, D, bias=False, dtype=torch.bfloat16),
            "fp8": Fp8Linear(D, D, bias=False, dtype=torch.bfloat16),
        }
    figures = compared(f"product {D} wide", linears, (x_BLD,), compiled)
    positions_BL = torch.arange(length, device=device).expand(rows, -1)
    rotary = tuple(table.bfloat16() for table in rotary_tables(config, positions_BL))
    bias = torch.full((length, length), -torch.inf, device=device, dtype=torch.bfloat16).triu(1)[None, None]
    precisions: tuple[Precision, ...] = ("bf16", "fp8")
    blocks: dict[str, nn.Module] = {name: new_model(config, name, device).layers[0] for name in precisions}
    return figures | compared(f"layer {D} wide", blocks, (x_BLD, rotary, bias, None, None), compiled)


def compared(what: str, modules: dict[str, nn.Module], inputs: tuple[Any, ...], compiled: bool) -> Figures:
    """Milliseconds of forward and backward in bf16 and in fp8, and how many times faster fp8 is."""
    spent = {}
    for name, module in modules.items():
        if compiled:
            module.compile(dynamic=False)
        spent[name] = seconds(partial(forward_backward, module, inputs), inputs[0].device)
    times: Figures = {f"{what}, {name}: ms": 1e3 * value for name, value in spent.items()}
    return {**times, f"{what}: fp8 is faster by": spent["bf16"] / spent["fp8"]}


def forward_backward(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    out = module(*inputs)
    first = out[0] if isinstance(out, tuple) else out
    first.backward(torch.ones_like(first))
    for parameter in module.parameters():
        parameter.grad = None


def standard_library(length: int) -> Tensor:
    """Python's own sources as bytes [N, length], the rows in a random order that is always the same."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = (path for path in sorted(folder.rglob("*.py")) if "-packages" not in str(path))
    text = torch.frombuffer(bytearray(b"".join(path.read_bytes() for path in files)), dtype=torch.uint8)
    rows_NL = text[: len(text) // length * length].view(-1, length)
    return rows_NL[torch.randperm(len(rows_NL), generator=torch.Generator().manual_seed(0))]


def loss(sizes: Sizes, device: torch.device) -> Figures:
    """Held-out cross-entropy after the same steps on the same rows from the same start."""
    rows_NL = standard_library(sizes.loss.max_position_embeddings)
    heldout_BL, train_NL = rows_NL[: sizes.loss_rows].long().to(device), rows_NL[sizes.loss_rows :]
    losses: dict[str, float] = {}
    for precision in ("bf16", "fp8"):
        trainer = Trainer(new_model(sizes.loss, precision, device))
        for step in range(sizes.loss_steps):
            numbers = torch.arange(step * sizes.loss_rows, (step + 1) * sizes.loss_rows) % len(train_NL)
            trainer.step(train_NL[numbers].long().to(device))
        with torch.no_grad():
            losses[precision] = trainer.loss(heldout_BL)[0].item()
    more = 100 * (losses["fp8"] / losses["bf16"] - 1)
    return {**{f"{name}: nat per byte": value for name, value in losses.items()}, "fp8 over bf16, %": more}


def long(sizes: Sizes, device: torch.device) -> Figures:
    """Microseconds a token of one row, recomputing each layer in the backward pass."""
    model = new_model(sizes.long, "bf16", device)
    for block in model.layers:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    trainer, short, longest = Trainer(model), *sizes.lengths
    spent: dict[str, list[float]] = {"prefill": [], "training": []}
    for length in sizes.lengths:
        tokens_BL = random_tokens(sizes.long, 1, length, device)
        with torch.no_grad():
            spent["prefill"].append(1e6 * seconds(partial(model, tokens_BL), device) / length)
        spent["training"].append(1e6 * seconds(partial(trainer.step, tokens_BL), device) / length)
    figures: Figures = {}
    for what, (one, other) in spent.items():
        figures |= {f"{what} of {short}: µs/token": one, f"{what} of {longest}: µs/token": other}
        figures[f"{what}: a token at {longest} over one at {short}"] = other / one
    return {**figures, "memory, GB": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else NEEDS_CUDA}


PARTS: dict[str, Callable[[Sizes, torch.device], Figures]] = {
    "products": products,
    "bf16": partial(training, precision="bf16", compiled=False),
    "bf16-compiled": partial(training, precision="bf16", compiled=True),
    "fp8-compiled": partial(training, precision="fp8", compiled=True),
    "layer": partial(layer, compiled=False),
    "layer-compiled": partial(layer, compiled=True),
    "loss": loss,
    "long": long,
}


# -- the call --------------------------------------------------------------------------------------------------------


def in_own_process(part: str, tiny: bool, limit_s: float) -> Figures:
    """The figures of one part, or why there are none."""
    command = [sys.executable, "-m", "benchmarks.speed.gpu", "--part", part, *(["--tiny"] if tiny else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {limit_s:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]}
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.gpu")
    parser.add_argument("--tiny", action="store_true", help="every part in seconds, on a CPU too")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be given several times")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds that a part may take")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file the figures are written to")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # what the process of one part is told
    parsed = parser.parse_args(arguments)
    device = pick_device()
    if parsed.part:
        print(json.dumps(PARTS[parsed.part](tiny_sizes() if parsed.tiny else full_sizes(), device)))
        return 0
    if device.type != "cuda" and not parsed.tiny:
        print("error: this measures a GPU and torch finds none; --tiny runs everything small", file=sys.stderr)
        return 1
    described = {"date": today(), "hardware": hardware(), "torch": torch.__version__, "tiny": parsed.tiny}
    described["commit"] = commit(Path(__file__).parent)
    found: dict[str, Figures] = {}
    for part in parsed.only or PARTS:
        found[part] = in_own_process(part, parsed.tiny, parsed.limit)
        for name, value in found[part].items():
            print(f"{part:<15} {name:<50} {value if isinstance(value, str) else f'{value:,.4g}'}", flush=True)
        write_atomic(parsed.results, json.dumps({**described, "figures": found}, indent=1, ensure_ascii=False) + "\n")
    print(f"kept in {parsed.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks.speed.long_context: time per token of long rows against short ones, window 1,024.

A training step (forward, backward, AdamW; activations recomputed) and a prefill, of a small network with random
weights and a global aggregate. Lengths take turns, so that a machine that slows down slows both. The ratio of the
medians is held against 1.15: linear time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.machine import commit, hardware, today
from trainer.artifacts import write_atomic
from trainer.engine.precision import pick_device, resolve_precision
from trainer.memory import keep_freed_memory
from trainer.model.config import ModelConfig
from trainer.model.decode_cache import LeftPaddedCache
from trainer.model.transformer import Transformer
from trainer.objectives import chunked_cross_entropy

RESULTS = Path(__file__).parent.parent / "results" / "long_context.json"
WINDOW, SLOTS = 1_024, 256
SHORT, LONG = 4_096, 65_536
BAR = 1.15


def network(hidden_size: int, layers: int) -> Transformer:
    config = ModelConfig(
        vocab_size=512, hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 64, intermediate_size=hidden_size, max_position_embeddings=2 * LONG,
        sliding_window=WINDOW, aggregate_slots=SLOTS,
    )  # fmt: skip
    model = Transformer(config)
    model.reset_parameters(torch.Generator().manual_seed(0))
    model.checkpoint_activations = True
    device = pick_device()
    return model.to(device, resolve_precision("auto", device))


def training_step(model: Transformer, optimizer: torch.optim.Optimizer, tokens_BL: torch.Tensor) -> None:
    hidden_TD, targets_T = model(tokens_BL).hidden_BLD.flatten(0, 1), tokens_BL.roll(-1, dims=1).flatten()
    loss = chunked_cross_entropy(hidden_TD, model.lm_head.weight, targets_T, torch.ones_like(targets_T).bool())
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def prefill(model: Transformer, tokens_BL: torch.Tensor) -> None:
    """The prompt's forward pass, and its keys, values and slots in a cache that goes on from there."""
    length = tokens_BL.shape[1]
    cache = LeftPaddedCache(
        model.config, torch.tensor([length], device=tokens_BL.device), length + 1, model.embed_tokens.weight.dtype
    )
    model.logits(model(tokens_BL, cache=cache).hidden_BLD[:, -1])


def seconds_per_token(action: Callable[[torch.Tensor], None], device: torch.device, repeats: int) -> dict[int, float]:
    """Medians for both lengths; the first time of each is not counted."""
    found: dict[int, list[float]] = {SHORT: [], LONG: []}
    for repeat in range(repeats + 1):
        for length, seconds in found.items():
            tokens_BL = torch.randint(512, (1, length), device=device)
            started = time.perf_counter()
            action(tokens_BL)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:
                seconds.append((time.perf_counter() - started) / length)
    return {length: statistics.median(seconds) for length, seconds in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.long_context")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    model = network(parsed.hidden_size, parsed.layers)
    optimizer = torch.optim.AdamW(model.parameters())
    device = model.embed_tokens.weight.device
    print(f"{hardware()}, {model.embed_tokens.weight.dtype}, window {WINDOW}, {SLOTS} slots")
    actions: dict[str, Callable[[torch.Tensor], None]] = {
        "training step": lambda tokens_BL: training_step(model, optimizer, tokens_BL),
        "prefill": lambda tokens_BL: prefill(model, tokens_BL),
    }
    kept = {}
    for name, action in actions.items():
        medians = seconds_per_token(action, device, parsed.repeats)
        kept[name] = {str(length): seconds for length, seconds in medians.items()}
        ratio = medians[LONG] / medians[SHORT]
        figures = ", ".join(f"{1e6 * seconds:.1f} µs a token at {length}" for length, seconds in medians.items())
        print(f"{name:<14} {figures}: ratio {ratio:.2f} (bar {BAR}: {'met' if ratio <= BAR else 'not met'})")
    described = {
        "date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent),
        "seconds a token by length": kept,
    }  # fmt: skip
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()

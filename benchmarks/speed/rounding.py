"""python -m benchmarks.speed.rounding EXPORT TOKENS: what coarser numbers cost, as perplexity of held-out rows.

EXPORT is what an export job left, TOKENS the artifact `tokens` of a tokenize job. Every document of the rows is read
as serving reads a prompt, in float32, bfloat16 and int8.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.machine import commit, hardware, today
from serving.loader import as_served, paged_forward
from serving.parity import Forward
from serving.runner import Runner
from trainer.artifacts import write_atomic
from trainer.data.rows import Rows, open_rows
from trainer.model.mixtral import load_model

RESULTS = Path(__file__).parent.parent / "results" / "rounding.json"
BLOCK_TOKENS = 16
BAR = 1.0  # % more perplexity that int8 may cost


def documents(rows: Rows, count: int) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Each document of the first rows: its tokens, and which of them count as targets."""
    batch = rows.take(np.arange(min(count, len(rows))))
    for tokens_L, segments_L, counts_L in zip(batch.tokens_BL, batch.segments_BL, batch.loss_mask_BL, strict=True):
        for segment in range(1, int(segments_L.max()) + 1):
            inside = segments_L == segment
            if int(inside.sum()) > 1:
                yield tokens_L[inside].tolist(), counts_L[inside]


def perplexity(forward: Forward, rows: Rows, count: int) -> float:
    """exp of the mean loss of the tokens that count."""
    losses = []
    for tokens, counts_L in documents(rows, count):
        logits_LV, _ = forward(tokens)
        loss_L = cross_entropy(logits_LV[:-1].float(), torch.tensor(tokens[1:]), reduction="none")
        losses.append(loss_L[counts_L[1:]])
    return math.exp(float(torch.cat(losses).mean()))


def served(export: Path, dtype: str) -> Forward:
    model = load_model(export, torch.float32).eval()
    blocks = -(-model.config.max_position_embeddings // BLOCK_TOKENS)
    return paged_forward(Runner(as_served(model, dtype), blocks, BLOCK_TOKENS), BLOCK_TOKENS)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.rounding")
    parser.add_argument("export", type=Path)
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--rows", type=int, default=64, help="of each source")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    found: dict[str, dict[str, float]] = {}
    for source, rows in open_rows(parsed.tokens, "heldout").items():
        by_dtype = {
            dtype: perplexity(served(parsed.export, dtype), rows, parsed.rows)
            for dtype in ("float32", "bfloat16", "int8")
        }
        found[source] = by_dtype
        cost = {dtype: 100 * (value / by_dtype["float32"] - 1) for dtype, value in by_dtype.items()}
        print(
            f"{source}: perplexity {by_dtype['float32']:.4f}; bfloat16 {cost['bfloat16']:+.3f} %, int8 "
            f"{cost['int8']:+.3f} % (bar {BAR} %: {'met' if cost['int8'] <= BAR else 'not met'})"
        )
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), "perplexity": found}
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")
    print(f"kept in {parsed.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

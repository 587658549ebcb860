"""python -m benchmarks.quality.mixture --data FOLDER: shares of the domains wanted and reached, in tokens.

Two tokenize jobs on the same text: one whose text is to hold the mixture, and one where all that a training with the
article's curriculum draws is to hold it. What the second one's training sees is counted from the rows it would draw,
step by step, not from the job's own report.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.corpus import tokenized, write_inputs
from benchmarks.machine import commit, hardware, today
from trainer.artifacts import RunFolder, write_atomic
from trainer.data.mixture import shares
from trainer.data.rows import open_rows
from trainer.spec import CURRICULUM, DOMAINS, Domain, SftSpec
from trainer.stages.sft import SOURCES, count_tokens, draw, phase_at

RESULTS = Path(__file__).parent.parent / "results" / "mixture.json"
STEPS, BATCH_ROWS = 400, 16


def seen_in_training(folder: RunFolder) -> dict[str, float]:
    """Shares of the tokens in all batches of a training."""
    sources = open_rows(folder.artifact("tokens"), "train")
    spec = SftSpec.model_validate(
        {
            "name": "sft", "inputs": {"dataset": "d"}, "model": "nano", "steps": STEPS, "batch_rows": BATCH_ROWS,
            "optimizer": {"lr": 1e-3},
        }
    )  # fmt: skip
    memory = {"drawn": dict.fromkeys(sources, 0.0), "owed": dict.fromkeys(SOURCES, 0.0)}
    seen: dict[Domain, int] = dict.fromkeys(DOMAINS, 0)
    for step in range(STEPS):
        count_tokens(seen, draw(spec, sources, phase_at(spec.phases, step / STEPS), memory))
    return shares(seen)


def table(name: str, found: dict[str, Any], reached: dict[str, float], wanted: dict[Domain, float]) -> dict[str, Any]:
    print(f"\n{name}")
    print(f"{'domain':<14}{'wanted':>8}{'reached':>9}{'tokens of text':>16}{'available':>12}{'repeated':>10}")
    for domain in DOMAINS:
        amounts = found["domains"][domain]
        print(
            f"{domain:<14}{wanted[domain]:>8.1%}{reached[domain]:>9.2%}{amounts['tokens']:>16,}"
            f"{amounts['available']:>12,}{amounts['repeated']:>10.2f}"
        )
    for sentence in found["short"]:
        print(sentence)
    furthest = max(abs(reached[domain] - wanted[domain]) for domain in DOMAINS)
    print(f"furthest from its target: {100 * furthest:.2f} points")
    return {"wanted": wanted, "reached": reached, "points off": round(100 * furthest, 3), **found}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.mixture")
    default = os.environ.get("OCTAVO_DATA")
    parser.add_argument("--data", type=Path, default=default, required=default is None, help="or OCTAVO_DATA")
    parser.add_argument("--max-tokens", type=int, default=4_000_000)
    parser.add_argument("--vocab-size", type=int, default=8_192)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parsed = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        inputs = write_inputs(Path(home), parsed.data)
        settings = {"vocab_size": parsed.vocab_size, "context": 1_024, "max_tokens": parsed.max_tokens}
        plain = tokenized(Path(home) / "plain", inputs, **settings)
        mixed = tokenized(Path(home) / "mixed", inputs, **settings, phases=CURRICULUM)
        wanted = plain.job().spec.mixture  # type: ignore[union-attr]
        kept = {
            "text": table("text", plain.result()["mixture"], plain.result()["text"]["train"]["shares"], wanted),
            "a whole training": table(
                "a whole training with the curriculum", mixed.result()["mixture"], seen_in_training(mixed), wanted
            ),
        }
    described = {"date": today(), "hardware": hardware(), "commit": commit(Path(__file__).parent), **kept}
    write_atomic(parsed.results, json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main()

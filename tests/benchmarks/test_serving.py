from pathlib import Path

import pytest
import torch

from benchmarks.speed import rounding
from benchmarks.speed.load import CLIENTS, Load
from benchmarks.speed.serving import Timing, batching, ratios, report
from serving.loader import paged_forward
from serving.runner import Runner
from tests.trainer import tiny
from trainer.data.rows import Rows


def timings(*rounds: dict[str, tuple[int, int, int]]) -> list[Timing]:
    """Tokens/s of engines with 1, 8 and 32 clients, round by round."""
    return [
        Timing(engine, clients, Load(speed, 0.1, 0.2))
        for speeds in rounds
        for engine, each in speeds.items()
        for clients, speed in zip(CLIENTS, each, strict=True)
    ]


def test_a_ratio_is_to_the_best_peer_of_its_own_round() -> None:
    found = timings(
        {"octavo bf16": (200, 500, 900), "llama.cpp bf16": (100, 200, 300), "vllm bf16": (50, 250, 450)},
        {"octavo bf16": (100, 200, 400), "llama.cpp bf16": (100, 100, 100), "vllm bf16": (200, 100, 100)},
    )
    assert ratios(found, "octavo bf16", 1) == [2.0, 0.5]
    assert ratios(found, "octavo bf16", 32) == [2.0, 4.0]
    assert batching(found, "octavo bf16") == [4.5, 4.0]


def test_the_report_judges_every_bar_it_has_figures_for() -> None:
    both = {"octavo bf16": (140, 260, 900), "octavo int8": (300, 390, 900), "llama.cpp bf16": (100, 200, 300)}
    lines = [line for line in report(timings(both)) if "bar" in line]
    assert [line.rpartition(": ")[2] for line in lines] == [
        *("not met", "met", "met", "met"),
        *("met", "not met", "met", "not met"),
    ]


def test_a_network_that_knows_nothing_has_the_vocabulary_as_its_perplexity(tmp_path: Path) -> None:
    model = tiny.network()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    rows = tiny.tokenized_run(tmp_path / "run").artifact("tokens") / "text" / "heldout"
    forward = paged_forward(Runner(model, 16, 4), 4)
    assert rounding.perplexity(forward, Rows(rows), 2) == pytest.approx(tiny.VOCABULARY, rel=1e-4)

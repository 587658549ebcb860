"""The benchmark of a GPU, run small on whatever there is, so that it works on the day there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.speed import gpu
from trainer.model.config import ModelConfig
from trainer.model.transformer import count_parameters

TINY = gpu.tiny_sizes()
CPU = torch.device("cpu")
# What the platform installs and a bare machine with torch may lack.
NOT_NEEDED = ("tokenizers", "safetensors", "deepspeed", "fastapi", "sqlalchemy", "transformers", "yaml", "bm25s")


@pytest.mark.parametrize("part", ["products", "bf16", "layer", "long"])
def test_a_part_runs_small_on_a_cpu(part: str) -> None:
    figures = gpu.PARTS[part](TINY, CPU)
    numbers = {name: value for name, value in figures.items() if not isinstance(value, str)}
    assert numbers
    assert all(value == value and abs(value) < float("inf") for value in numbers.values())
    assert set(figures.values()) - set(numbers.values()) <= {gpu.NEEDS_CUDA}


@pytest.mark.parametrize("part", ["bf16-compiled", "fp8-compiled", "layer-compiled"])
def test_a_part_that_only_a_gpu_has_says_so(part: str) -> None:
    assert set(gpu.PARTS[part](TINY, CPU).values()) == {gpu.NEEDS_CUDA}


def test_products_err_by_rounding() -> None:
    assert all(float(error) < 0.01 for error in gpu.products(TINY, CPU).values())


def test_both_formats_learn_the_standard_library() -> None:
    found = gpu.loss(TINY, CPU)
    assert all(0 < float(found[f"{name}: nat per byte"]) < 5.5 for name in ("bf16", "fp8"))  # log 256 = 5.55


def test_one_call_keeps_every_part_also_those_that_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.json"
    assert gpu.main(["--tiny", "--only", "products", "--results", str(path)]) == 0
    assert json.loads(path.read_text())["figures"]["products"]["error of grouped"] < 0.01
    assert gpu.main(["--tiny", "--only", "products", "--limit", "0.01", "--results", str(path)]) == 0
    assert "took longer" in json.loads(path.read_text())["figures"]["products"]["failed"]
    assert "took longer" in capsys.readouterr().out


def test_it_needs_little_beside_torch() -> None:
    program = f"import benchmarks.speed.gpu, sys; sys.exit(any(m in sys.modules for m in {NOT_NEEDED}))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_full_sizes_are_what_is_to_be_measured() -> None:
    sizes = gpu.full_sizes()
    assert count_parameters(sizes.training).total > 1e9
    assert sizes.layer.hidden_size == 4096
    assert sizes.long.sliding_window == 1024
    assert sizes.lengths == (4096, 65536)
    for config in (sizes.training, sizes.layer, sizes.loss, TINY.training, TINY.layer, TINY.loss):
        assert all(width % 16 == 0 for width in widths(config)), "fp8 takes no other"


def widths(config: ModelConfig) -> tuple[int, ...]:
    return config.hidden_size, config.intermediate_size, config.num_key_value_heads * config.head_dim

"""The meter: shares of the peak, the peak itself measured or listed, memory that was really held."""

import timeit
from pathlib import Path

import psutil
import pytest
import torch

from tests.trainer import tiny
from trainer.artifacts import Run, RunFolder
from trainer.devices import GPUS, find_gpu
from trainer.engine.meter import Meter, measured_peak, peak_memory

CPU = torch.device("cpu")


def a_run(path: Path) -> Run:
    job = {"kind": "sft", "name": "sft", "model": tiny.config().model_dump(), "steps": 1, "optimizer": {"lr": 0.01}}
    return tiny.new_run(path, job, {"dataset": RunFolder(path.parent)})


def test_mfu_is_a_share_of_one_peak_that_is_measured_once_and_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = Meter(a_run(tmp_path / "run"), tiny.network())
    slow = meter.report(tokens=64, flops=1e9, seconds=2.0)
    fast = meter.report(tokens=64, flops=1e9, seconds=0.5)
    assert slow["tokens_per_second"] == 32
    assert slow["flops"] == 1e9
    assert fast["mfu"] == pytest.approx(4 * slow["mfu"])
    assert capsys.readouterr().out.count("measured here in fp32 by products of 64 x 32 with 32 x 290") == 1


def test_a_product_of_the_measured_size_takes_about_as_long_as_the_peak_says() -> None:
    peak = measured_peak(256, 256, 256, torch.float32, CPU)
    left, right = torch.ones(256, 256), torch.ones(256, 256)
    seconds = min(timeit.repeat(lambda: left @ right, number=1, repeat=50))
    assert 0.1 < 2 * 256**3 / seconds / peak < 10


def test_peak_memory_is_at_least_what_is_held_now_and_no_more_than_there_is() -> None:
    held = torch.ones(2**25, dtype=torch.uint8)
    assert psutil.Process().memory_info().rss <= peak_memory(CPU) * 1.01 <= psutil.virtual_memory().total
    assert held.numel() < peak_memory(CPU)


@pytest.mark.parametrize(
    ("cuda_name", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
    ],
)
def test_cards_are_found_by_cudas_name_of_them(cuda_name: str, bf16: float) -> None:
    gpu = find_gpu(cuda_name)
    assert gpu is not None
    assert gpu.peak("bf16") == gpu.peak("fp16") == bf16


def test_an_unlisted_card_is_not_taken_for_another() -> None:
    assert find_gpu("NVIDIA Tesla T4") is None
    assert [find_gpu(gpu.mark) for gpu in GPUS] == list(GPUS)

"""What a precision makes of a network."""

import pytest
import torch

from tests.trainer import tiny
from trainer.engine.precision import place, resolve_precision
from trainer.model.transformer import Transformer
from trainer.spec import Precision

CPU = torch.device("cpu")
FORMATS: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8": torch.bfloat16,
}


def network(precision: Precision) -> Transformer:
    return place(tiny.network(tiny.config(intermediate_size=32), std=0.1), precision, CPU)


@pytest.mark.parametrize("precision", FORMATS)
def test_parameters_have_the_format_of_the_precision(precision: Precision) -> None:
    assert resolve_precision(precision, CPU) == FORMATS[precision]
    assert {parameter.dtype for parameter in network(precision).parameters()} == {FORMATS[precision]}


def test_left_to_itself_a_run_takes_bf16_or_float32() -> None:
    assert resolve_precision("auto", CPU) in (torch.bfloat16, torch.float32)
    assert resolve_precision("auto", torch.device("cuda")) == torch.bfloat16

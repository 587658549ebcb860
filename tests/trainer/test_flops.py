"""Operations: the formula equals what torch's own counter sees the real network do."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.trainer import tiny
from trainer.flops import forward_flops, mean_visible, training_flops
from trainer.model.attention import visible
from trainer.model.config import ModelConfig

ROWS, LENGTH = 2, 32


def counted(shape: ModelConfig) -> tuple[dict[str, int], dict[str, int]]:
    """Operation -> FLOPs of a forward and of a backward pass; grouped products without the rows that pad segments."""
    choices = ROWS * LENGTH * shape.num_experts_per_tok

    def grouped(a: torch.Size, b: torch.Size, *_: object, **__: object) -> int:
        # Weights times rows, [R, I] x [E, I, O]; or, for the weights' gradient, rows times rows, [I, R] x [R, O].
        return 2 * choices * b[1] * b[2] if len(b) == 3 else 2 * choices * a[0] * b[1]

    counter = {"custom_mapping": {torch.ops.aten._grouped_mm: grouped}, "display": False}
    model = tiny.network(shape)
    with FlopCounterMode(**counter) as forward:  # type: ignore[arg-type]
        loss = model.logits(model(torch.randint(tiny.VOCABULARY, (ROWS, LENGTH))).hidden_BLD).square().sum()
    with FlopCounterMode(**counter) as backward:  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]
    return tuple({str(op): n for op, n in c.get_flop_counts()["Global"].items()} for c in (forward, backward))  # type: ignore[return-value]


@pytest.mark.parametrize("changes", [{}, {"num_local_experts": 16, "num_experts_per_tok": 5, "num_key_value_heads": 1}])
def test_the_formula_counts_what_the_network_does(changes: dict[str, int]) -> None:
    shape = tiny.config(**changes)
    forward, backward = counted(shape)
    formula = forward_flops(shape, ROWS, LENGTH)
    in_attention = forward.pop("aten.bmm")
    assert sum(forward.values()) == formula.products
    # The explicit attention computes the masked half too, which does not count as work.
    assert in_attention * mean_visible(LENGTH, None) / LENGTH == pytest.approx(formula.attention)
    assert sum(backward.values()) == 2 * (formula.products + in_attention)
    assert training_flops(shape, ROWS, LENGTH) == pytest.approx(3 * (formula.products + formula.attention))


@pytest.mark.parametrize(("length", "window"), [(1, None), (7, None), (7, 3), (7, 7), (8, 1)])
def test_a_token_sees_as_many_keys_as_the_mask_shows(length: int, window: int | None) -> None:
    shape = tiny.config(sliding_window=window)
    seen = visible(shape, length, None, torch.device("cpu"))
    assert mean_visible(length, window) == pytest.approx(seen.sum().item() / length)


def test_beyond_the_window_operations_grow_in_proportion_to_length() -> None:
    shape = tiny.config(sliding_window=8)
    per_token = [forward_flops(shape, 1, length).total / length for length in (4096, 65536)]
    assert per_token[1] == pytest.approx(per_token[0], rel=1e-3)

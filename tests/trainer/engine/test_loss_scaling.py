"""The loss scale's laws, and what the loop makes of them: an overflow skips the step, an underflow raises the scale."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainer import tiny
from trainer.engine.loop import Loop
from trainer.engine.loss_scaling import LARGEST, SMALLEST, LossScale, is_underflow, zero_gradient_share
from trainer.engine.precision import MasterOptimizer, place
from trainer.model.transformer import Transformer
from trainer.spec import LossScaling, Optimizer, SftSpec

SCALES = st.floats(SMALLEST, LARGEST)
EVENTS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200)
CPU = torch.device("cpu")


@given(SCALES)
def test_each_event_has_its_exact_transition(value: float) -> None:
    scale = LossScale(value)
    assert scale.after(overflow=False, underflow=False) == scale
    assert scale.after(overflow=True, underflow=False).value == max(value / 4, 1)
    assert scale.after(overflow=False, underflow=True).value == min(value * 2, 65536)
    assert scale.after(overflow=True, underflow=True) == scale.after(overflow=True, underflow=False)


@given(SCALES, EVENTS)
def test_no_sequence_of_events_leaves_the_bounds(value: float, events: list[tuple[bool, bool]]) -> None:
    scale = LossScale(value)
    for overflow, underflow in events:
        scale = scale.after(overflow=overflow, underflow=underflow)
        assert 1 <= scale.value <= 2**16


@given(SCALES, SCALES, st.booleans(), st.booleans())
def test_the_same_event_never_changes_the_order_of_two_scales(
    one: float, other: float, overflow: bool, underflow: bool
) -> None:
    lower, upper = (
        LossScale(value).after(overflow=overflow, underflow=underflow).value for value in sorted((one, other))
    )
    assert lower <= upper


@given(EVENTS)
def test_the_scale_stays_a_power_of_two_so_that_dividing_by_it_is_exact(events: list[tuple[bool, bool]]) -> None:
    scale = LossScale()
    for overflow, underflow in events:
        scale = scale.after(overflow=overflow, underflow=underflow)
        assert scale.value.hex().startswith("0x1.0000000000000p")


def test_eight_overflows_in_a_row_lead_from_the_largest_to_the_smallest_and_sixteen_underflows_back() -> None:
    scale = LossScale()
    for _ in range(8):
        assert scale.value > SMALLEST
        scale = scale.after(overflow=True, underflow=False)
    assert scale.value == SMALLEST
    for _ in range(16):
        assert scale.value < LARGEST
        scale = scale.after(overflow=False, underflow=True)
    assert scale.value == LARGEST


def test_zeros_are_counted_in_rows_that_have_something_else() -> None:
    embedding = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])  # the first token did not occur
    vector = torch.tensor([1.0, 2.0, 0.0, 4.0])
    assert zero_gradient_share([embedding, vector]) == (3 + 1) / 8
    assert zero_gradient_share([vector[:2]]) == 0
    assert zero_gradient_share([embedding[:1]]) == zero_gradient_share([]) == 1


def test_the_literal_rule_looks_at_the_loss_and_the_other_at_zeros() -> None:
    literal, share = LossScaling(underflow="zero_loss"), LossScaling(zero_share=0.25)
    assert is_underflow(literal, 0.0, 0.0)
    assert not is_underflow(literal, 1e-30, 1.0)
    assert is_underflow(share, 1.0, 0.26)
    assert not is_underflow(share, 0.0, 0.25)


def test_a_scaled_gradient_steps_as_the_unscaled_one_bit_for_bit() -> None:
    plain, scaled = (tiny.network() for _ in range(2))
    optimizers = [MasterOptimizer(model, Optimizer(lr=0.1)) for model in (plain, scaled)]
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad * 2**13
    assert optimizers[0].step(0.1) == optimizers[1].step(0.1, loss_scale=2.0**13)
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        assert torch.equal(one, other)


# -- the loop --------------------------------------------------------------------------------------------------------


def a_loop(path: Path, **changes: object) -> Loop:
    values = {"kind": "sft", "name": "sft", "model": tiny.config().model_dump(), "steps": 40, "precision": "fp16"}
    dataset = tiny.RunFolder(path)
    run = tiny.new_run(path / "run", {**values, "optimizer": {"lr": 0.01}, **changes}, {"dataset": dataset})
    spec = run.folder.job().spec
    assert isinstance(spec, SftSpec)
    return Loop(run, spec, place(tiny.network(), spec.precision, CPU))


def step_with_gradient(loop: Loop, gradient: float, gradient_of_every_second: float | None = None) -> dict[str, float]:
    """One update whose unscaled gradient is a constant; the row of metrics that it wrote."""
    other = gradient if gradient_of_every_second is None else gradient_of_every_second
    loss = torch.zeros(())
    for parameter in loop.model.parameters():
        wanted = torch.where(torch.arange(parameter.shape[-1]) % 2 == 0, gradient, other)
        loss = loss + (parameter.float() * wanted).sum()
    loop.update(loss - loss.detach() + 1, {})
    row: dict[str, float] = json.loads(loop.run.folder.metrics_file.read_text().splitlines()[-1])["values"]
    return row


def weights_and_moments(loop: Loop) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in loop.optimizer.state().items()}


def test_an_overflow_leaves_weights_and_moments_counts_the_step_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = a_loop(tmp_path)
    loop.loss_scale = LossScale(2.0**10)
    step_with_gradient(loop, 1.0)
    before, network = weights_and_moments(loop), [p.clone() for p in loop.model.parameters()]
    row = step_with_gradient(loop, 100.0)  # 100 · 2^10 is more than fp16 holds
    assert loop.step == 2
    assert loop.loss_scale.value == 2.0**8
    assert row["skipped"] == 1
    assert row["loss_scale"] == 2.0**10
    assert "grad_norm" not in row
    assert "step 1: gradients overflowed at loss scale 1024; skipped, now 256" in capsys.readouterr().out
    for name, tensor in weights_and_moments(loop).items():
        assert torch.equal(tensor, before[name]), name
    assert all(torch.equal(p, was) for p, was in zip(loop.model.parameters(), network, strict=True))
    assert step_with_gradient(loop, 100.0)["skipped"] == 0
    assert not torch.equal(weights_and_moments(loop)["weight/norm.weight"], before["weight/norm.weight"])


def test_gradients_that_underflow_raise_the_scale_until_they_show(tmp_path: Path) -> None:
    """fp16's smallest magnitude is 2^-24, so that gradients of 2^-36 show from a scale of 2^12 on."""
    loop = a_loop(tmp_path)
    loop.loss_scale = LossScale(1.0)
    rows = [step_with_gradient(loop, 1.0, 2.0**-36) for _ in range(14)]
    assert [row["loss_scale"] for row in rows] == [*(2.0**power for power in range(12)), 2.0**12, 2.0**12]
    assert [row["zero_gradient_share"] for row in rows] == [0.5] * 12 + [0.0] * 2


def test_by_the_literal_rule_the_scale_does_not_rise_again(tmp_path: Path) -> None:
    loop = a_loop(tmp_path, loss_scaling={"underflow": "zero_loss"})
    loop.loss_scale = LossScale(1.0)
    rows = [step_with_gradient(loop, 1.0, 2.0**-36) for _ in range(3)]
    assert [row["loss_scale"] for row in rows] == [1.0] * 3
    assert rows[-1]["zero_gradient_share"] == 0.5


def test_an_overflow_that_no_scale_can_help_ends_the_run_with_a_remedy(tmp_path: Path) -> None:
    loop = a_loop(tmp_path)
    for _ in range(8):
        assert step_with_gradient(loop, 1e6)["skipped"] == 1
    with pytest.raises(ValueError, match=r"gradient is not finite.*precision to fp32"):
        step_with_gradient(loop, 1e6)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_formats_have_no_loss_scale(tmp_path: Path, precision: str) -> None:
    loop = a_loop(tmp_path, precision=precision)
    assert step_with_gradient(loop, 1e6).keys() == {"loss", "lr", "grad_norm"}
    assert loop.loss_scale.value == 1
    with pytest.raises(ValueError, match="gradient is not finite"):
        step_with_gradient(loop, 1e30)


def test_a_network_in_fp16_keeps_float32_masters_that_small_steps_add_up_in(tmp_path: Path) -> None:
    """A step of 1e-5 is lost in an fp16 weight near 1 (its neighbours are 1e-3 apart); a hundred of them are not."""
    loop = a_loop(tmp_path, steps=100, optimizer={"lr": 1e-5, "warmup": 0, "decay": 0, "weight_decay": 0})
    loop.loss_scale = LossScale(2.0**8)
    model = loop.model
    assert isinstance(model, Transformer)
    assert model.norm.weight.dtype == torch.float16
    step_with_gradient(loop, 1.0)
    assert torch.equal(model.norm.weight, torch.ones_like(model.norm.weight))
    for _ in range(99):
        step_with_gradient(loop, 1.0)
    torch.testing.assert_close(model.norm.weight.float(), torch.full((32,), 1 - 1e-3), atol=3e-4, rtol=0)

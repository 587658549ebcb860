"""FP8 products against dequantised ones in float32, their distance from float32, gradients, and the network in FP8."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.trainer import tiny
from trainer.model.fp8 import GRADIENTS, VALUES, Fp8Linear, grouped_mm, quantise, to_fp8
from trainer.model.transformer import Transformer

# Half the distance of neighbours, as a share: 3 bits of mantissa in E4M3, 2 in E5M2.
ROUNDING = {VALUES: 2.0**-4, GRADIENTS: 2.0**-3}
ENDS = [16, 16, 64, 96]  # four experts, the second of them idle


def random(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.exp(spread * torch.randn(shape[-1], generator=generator))


def dequantised(x: Tensor, dtype: torch.dtype) -> Tensor:
    q = quantise(x, dtype)
    return q.values.float() * q.scale


def relative_error(found: Tensor, wanted: Tensor) -> float:
    return ((found.float() - wanted.float()).norm() / wanted.float().norm()).item()


def linear(w_NK: Tensor) -> Fp8Linear:
    layer = Fp8Linear(w_NK.shape[1], w_NK.shape[0], bias=False)
    layer.weight = torch.nn.Parameter(w_NK.clone())
    return layer


@pytest.mark.parametrize("dtype", [VALUES, GRADIENTS])
@given(exponent=st.integers(-100, 100), seed=st.integers(0, 1000))
def test_quantising_errs_by_at_most_half_a_step_whatever_the_size(dtype: torch.dtype, exponent: int, seed: int) -> None:
    x = random(2, 4, 8, seed=seed) * 2.0**exponent
    q = quantise(x, dtype)
    assert q.scale.shape == (2, 1, 1)
    error = (q.values.float() * q.scale - x).abs()
    smallest = q.scale * torch.finfo(dtype).smallest_normal
    assert bool((error <= ROUNDING[dtype] * torch.maximum(x.abs(), smallest) * 1.001).all())
    assert torch.equal(q.values.float().abs().amax((1, 2)), torch.full((2,), torch.finfo(dtype).max))


def test_zeros_stay_zeros_and_what_is_no_number_stays_none() -> None:
    assert not quantise(torch.zeros(4, 4), VALUES).values.float().any()
    broken = torch.ones(4, 4)
    broken[1, 2] = torch.nan
    q = quantise(broken, VALUES)
    assert bool((q.values.float() * q.scale)[1, 2].isnan())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_linear_layer_and_its_gradients_are_products_of_the_quantised_factors(dtype: torch.dtype) -> None:
    x, w, g = (random(48, 32, seed=1).to(dtype), random(64, 32, seed=2).to(dtype), random(48, 64, seed=3).to(dtype))
    layer, leaf = linear(w), x.clone().requires_grad_()
    y = layer(leaf)
    y.backward(g)
    x8, w8, g8 = dequantised(x, VALUES), dequantised(w, VALUES), dequantised(g, GRADIENTS)
    assert leaf.grad is not None
    assert layer.weight.grad is not None
    for found, wanted in ((y, x8 @ w8.T), (leaf.grad, g8 @ w8), (layer.weight.grad, g8.T @ x8)):
        assert found.dtype == dtype
        torch.testing.assert_close(found, wanted.to(dtype), rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-4)


@pytest.mark.parametrize("tokens", [1, 7, 16])
def test_any_number_of_tokens_does(tokens: int) -> None:
    """Padding up to the kernel's multiple changes nothing."""
    x, w = random(2, tokens, 32, seed=1), random(16, 32, seed=2)
    layer, leaf = linear(w), x.clone().requires_grad_()
    y = layer(leaf)
    assert y.shape == (2, tokens, 16)
    torch.testing.assert_close(y, dequantised(x.flatten(0, 1), VALUES).view_as(x) @ dequantised(w, VALUES).T)
    y.square().sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_and_gradients_are_those_of_each_expert_by_itself(dtype: torch.dtype) -> None:
    x, w, g = (random(96, 32, seed=1).to(dtype), random(4, 64, 32, seed=2).to(dtype), random(96, 64, seed=3).to(dtype))
    leaf, weight = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = grouped_mm(leaf, weight.transpose(1, 2), offs=torch.tensor(ENDS, dtype=torch.int32))
    y.backward(g)
    x8, w8, g8 = dequantised(x, VALUES), dequantised(w, VALUES), dequantised(g, VALUES)
    pieces = [slice(start, end) for start, end in zip([0, *ENDS[:-1]], ENDS, strict=True)]
    assert leaf.grad is not None
    assert weight.grad is not None
    wanted_y = torch.cat([x8[rows] @ w_NK.T for rows, w_NK in zip(pieces, w8, strict=True)])
    wanted_x = torch.cat([g8[rows] @ w_NK for rows, w_NK in zip(pieces, w8, strict=True)])
    wanted_w = torch.stack([g8[rows].T @ x8[rows] for rows in pieces])
    for found, wanted in ((y, wanted_y), (leaf.grad, wanted_x), (weight.grad, wanted_w)):
        torch.testing.assert_close(found, wanted.to(dtype), rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-4)
    assert not weight.grad[1].any(), "the idle expert has no gradient"


def test_rows_that_no_expert_has_are_never_looked_at() -> None:
    """They hold whatever lay in memory, and a scale taken over it would spoil everything."""
    x, w, g = random(96, 32, seed=1), random(4, 64, 32, seed=2), random(96, 64, seed=3)
    found = []
    for rest in (0.0, torch.nan, 1e30):
        longer, grad = (torch.cat((part, torch.full((16, part.shape[1]), rest))) for part in (x, g))
        leaf, weight = longer.requires_grad_(), w.clone().requires_grad_()
        y = grouped_mm(leaf, weight.transpose(1, 2), offs=torch.tensor(ENDS, dtype=torch.int32))
        y.backward(grad)
        assert leaf.grad is not None
        found.append((y[:96], leaf.grad[:96], weight.grad))
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.floats(0, 1.5))
def test_a_product_lies_within_the_rounding_of_its_factors_from_float32(seed: int, spread: float) -> None:
    """Each factor errs by 1/16 at most, on average far less, and the errors of many terms partly cancel."""
    x, w = random(32, 64, seed=seed, spread=spread), random(48, 64, seed=seed + 1)
    assert relative_error(linear(w)(x), x @ w.T) < 2**-4
    ends = torch.tensor([16, 32], dtype=torch.int32)
    stack = torch.stack((w, -2 * w))
    wanted = torch.cat((x[:16] @ w.T, x[16:] @ (-2 * w).T))
    assert relative_error(grouped_mm(x, stack.transpose(1, 2), offs=ends), wanted) < 2**-4


def test_a_power_of_two_on_the_loss_changes_no_bit_of_the_gradient() -> None:
    """Scales follow the tensors, so that loss scaling is for fp16 alone."""
    gradients = []
    for scale in (1.0, 2.0**16):
        layer = linear(random(16, 32, seed=2))
        (layer(random(16, 32, seed=1)).square().sum() * scale).backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad / scale)
    assert torch.equal(*gradients)


# -- the network -----------------------------------------------------------------------------------------------------


def networks() -> tuple[Transformer, Transformer]:
    """The same weights, in float32 and with FP8 products; all experts chosen, so that no rounding changes a choice."""
    plain, fp8 = (tiny.network(tiny.config(intermediate_size=32, num_experts_per_tok=8), std=0.1) for _ in range(2))
    to_fp8(fp8)
    return plain, fp8


def test_names_shapes_and_values_of_the_parameters_stay() -> None:
    plain, fp8 = networks()
    assert list(plain.state_dict()) == list(fp8.state_dict())
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in fp8.named_parameters()]
    assert all(torch.equal(tensor, fp8.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_projections_and_experts_are_fp8_and_nothing_else() -> None:
    _, fp8 = networks()
    quantised = {name.split(".")[-1] for name, module in fp8.named_modules() if isinstance(module, Fp8Linear)}
    assert quantised == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert all(block.moe.grouped_mm is grouped_mm for block in fp8.layers)
    assert type(fp8.layers[0].moe.router) is type(fp8.lm_head) is torch.nn.Linear


def test_the_network_and_its_gradients_are_near_those_in_float32() -> None:
    plain, fp8 = networks()
    tokens = torch.randint(tiny.VOCABULARY, (2, 32), generator=torch.Generator().manual_seed(0))
    for model in (plain, fp8):
        logits = model.logits(model(tokens).hidden_BLD)
        F.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    with torch.no_grad():
        error = relative_error(*(model.logits(model(tokens).hidden_BLD) for model in (fp8, plain)))
    assert 0 < error < 0.1
    for (name, one), other in zip(plain.named_parameters(), fp8.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.cosine_similarity(one.grad.flatten(), other.grad.flatten(), dim=0) > 0.97, name


def test_torch_compile_follows_fp8_products() -> None:
    """Only the tracing, which is what fails where a product is not understood; nothing is generated."""
    _, fp8 = networks()
    attention, moe = fp8.layers[0].attention, fp8.layers[0].moe

    def products(x_TD: Tensor) -> Tensor:
        y_TD: Tensor = moe(attention.q_proj(x_TD) + attention.o_proj(x_TD))[0]
        return y_TD

    x_TD = random(40, 32, seed=1)
    y_TD = torch.compile(products, backend="eager", dynamic=False)(x_TD)
    assert torch.equal(y_TD, products(x_TD))
    y_TD.square().sum().backward()
    assert all(parameter.grad is not None for parameter in moe.parameters())


@pytest.mark.parametrize(
    ("changes", "named"), [({"intermediate_size": 24}, "intermediate_size"), ({"num_key_value_heads": 1}, "key/value")]
)
def test_a_width_that_a_gpu_cannot_multiply_is_refused(changes: dict[str, int], named: str) -> None:
    model = tiny.network(tiny.config(**{"intermediate_size": 32, **changes}))
    with pytest.raises(ValueError, match=rf"{named}.*multiples of 16.*precision to bf16"):
        to_fp8(model)

"""The networks a CPU answers with compute what the plain one does, with compiled kernels and without: alone, in a
batch, by token and by chunk.

Logits of the small networks here have a standard deviation near 1; bfloat16 has 8 bits, 8-bit weights and inputs are
rounded to half a 127th of the largest.
"""

from collections.abc import Callable
from statistics import median

import pytest
import torch
from torch import Tensor

from serving import rotary
from serving.kernel_model import KernelTransformer, fits
from serving.kernels import kernels, missing, pack
from serving.packed_matrix import Bf16Matrix, Int8Matrix, Matrix, bucket, buckets
from serving.packed_model import PackedTransformer
from serving.runner import Network, Runner
from serving.scheduler import Chunk, Sequence
from tests.trainer import tiny
from trainer.model.attention import rotary_tables, rotate
from trainer.model.moe import MoE
from trainer.model.transformer import Transformer

BLOCK = 4
PACKINGS = [pytest.param(Bf16Matrix, 0.03, id="bf16"), pytest.param(Int8Matrix, 0.06, id="int8")]


Make = Callable[[Transformer], Network]
compiled = pytest.mark.skipif(missing() is not None, reason=f"no compiled kernels here: {missing()}")
NETWORKS = [
    pytest.param(lambda model: PackedTransformer(model, Bf16Matrix), 0.03, id="bf16"),
    pytest.param(lambda model: PackedTransformer(model, Int8Matrix), 0.06, id="int8"),
    pytest.param(lambda model: KernelTransformer(model, torch.bfloat16), 0.03, id="kernels bf16", marks=compiled),
    pytest.param(lambda model: KernelTransformer(model, torch.int8), 0.06, id="kernels int8", marks=compiled),
]


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Random weights, also where a norm's weights start as ones, so that folding them in shows."""
    model = tiny.network(
        tiny.config(vocab_size=288, hidden_size=128, intermediate_size=64, num_local_experts=8, num_experts_per_tok=2)
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return model


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Root mean square of the difference over that of what is wanted."""
    return float((found.float() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())


@pytest.mark.parametrize("rows", [1, 2, 3, 17, 40])
@pytest.mark.parametrize(("matrix", "bound"), PACKINGS)
def test_a_packed_matrix_multiplies(matrix: type[Matrix], bound: float, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight_ND = torch.randn(96, 64, generator=generator)
    x_TD = torch.randn(rows, 64, generator=generator).bfloat16()
    packed = matrix(weight_ND)
    assert relative_error(packed(packed.rows(x_TD)), x_TD.float() @ weight_ND.T) < bound


def test_largest_inputs_do_not_wrap_round() -> None:
    """A row's largest number becomes the largest integer, whatever its bits are."""
    x_TD = torch.arange(1.0, 2.0, 1 / 128).bfloat16().unsqueeze(1).expand(-1, 16).contiguous()
    packed = Int8Matrix(torch.eye(16))
    for sign in (1, -1):
        assert relative_error(packed(packed.rows(sign * x_TD)), sign * x_TD.float()) < 0.01


def test_buckets_hold_what_they_are_for() -> None:
    assert all(bucket(rows) >= rows and bucket(bucket(rows)) == bucket(rows) for rows in range(1, 2000))
    assert buckets(100) == sorted({bucket(rows) for rows in range(1, 101)})


def test_rotation_is_the_plain_networks(model: Transformer) -> None:
    config, positions_T = model.config, torch.tensor([0, 3, 7, 100])
    heads, kept = config.num_attention_heads + config.num_key_value_heads, config.num_key_value_heads
    x_TNK = torch.randn(4, heads + kept, config.head_dim).bfloat16()
    turned_TNK = rotary.rotate(x_TNK, *rotary.tables_of_heads(config, positions_T))
    plain_HTK = rotate(
        x_TNK[:, :heads].transpose(0, 1).float(), *(t[0] for t in rotary_tables(config, positions_T[None]))
    )
    torch.testing.assert_close(turned_TNK[:, :heads].transpose(0, 1).float(), plain_HTK, atol=0.05, rtol=0.02)
    assert torch.equal(turned_TNK[:, heads:], x_TNK[:, heads:]), "values are not rotated"


@pytest.mark.parametrize("way", ["sorted", "by_token"])
@pytest.mark.parametrize(("matrix", "bound"), PACKINGS)
def test_every_way_to_multiply_experts_gives_the_same(
    model: Transformer, matrix: type[Matrix], bound: float, way: str
) -> None:
    moe, experts = model.layers[0].moe, PackedTransformer(model, matrix).blocks[0].experts
    assert isinstance(moe, MoE)
    tokens = 1 if way == "by_token" else 50
    normalised_TD = torch.randn(tokens, model.config.hidden_size).bfloat16()
    with torch.inference_mode():
        wanted_TD, _, wanted = moe(normalised_TD.float() * model.layers[0].post_attention_layernorm.weight)
        _, _, routing = experts(normalised_TD, tokens)
        assert torch.equal(routing.choices_Tk, wanted.choices_Tk)
        torch.testing.assert_close(routing.weights_Tk, wanted.weights_Tk, atol=1e-4, rtol=1e-4)
        arguments = (normalised_TD, routing, tokens) if way == "sorted" else (normalised_TD, routing)
        assert relative_error(getattr(experts, way)(*arguments), wanted_TD) < bound


def logits(runner: Runner, tokens: list[int], sizes: list[int]) -> Tensor:
    """Of all tokens, run in chunks of these sizes."""
    sequence, parts, start = Sequence("one", tokens, list(range(-(-len(tokens) // BLOCK)))), [], 0
    with torch.inference_mode():
        for size in sizes:
            parts.append(runner.forward([Chunk(sequence, start, size)]).hidden_BLD[0])
            start += size
        return runner.model.logits(torch.cat(parts))


@pytest.mark.parametrize("sizes", [[40], [35, 1, 1, 1, 1, 1], [3, 5, 32]])
@pytest.mark.parametrize(("make", "bound"), NETWORKS)
@pytest.mark.parametrize("window", [None, 7])
def test_the_network_is_the_plain_one(
    model: Transformer, make: Make, bound: float, sizes: list[int], window: int | None
) -> None:
    """In one chunk, in several, and token by token; in 35 tokens there is padding."""
    tokens = torch.randint(model.config.vocab_size, (sum(sizes),), generator=torch.Generator().manual_seed(2)).tolist()
    windowed = Transformer(model.config.model_copy(update={"sliding_window": window}))
    windowed.load_state_dict(model.state_dict())
    with torch.inference_mode():
        wanted_LV = windowed.logits(windowed(torch.tensor([tokens])).hidden_BLD[0])
        found_LV = logits(Runner(make(windowed), 16, BLOCK), tokens, sizes)
    # The median, since one token's choice of experts may be too close to call.
    assert median(relative_error(*pair) for pair in zip(found_LV, wanted_LV, strict=True)) < 2 * bound


@pytest.mark.parametrize(("make", "bound"), NETWORKS)
def test_a_sequence_does_not_see_the_rest_of_its_batch(model: Transformer, make: Make, bound: float) -> None:
    """Decoding beside others, of other lengths, and beside a prompt gives what it gives alone, but for rounding."""
    with torch.inference_mode():
        runner = Runner(make(model), 64, BLOCK)
    generator = torch.Generator().manual_seed(3)
    sequences = [
        Sequence(str(n), torch.randint(256, (length,), generator=generator).tolist(), list(range(8 * n, 8 * n + 8)))
        for n, length in enumerate((5, 30, 17, 9, 23))
    ]
    for sequence in sequences:
        runner.run([Chunk(sequence, 0, len(sequence.tokens) - 1)])
    prompt = Sequence("prompt", list(range(20)), list(range(48, 56)))
    steps = [Chunk(sequence, len(sequence.tokens) - 1, 1) for sequence in sequences]
    _, together_NV = runner.run([*steps, Chunk(prompt, 0, 20)])
    alone_NV = [runner.run([step])[1][0] for step in steps]
    assert median(relative_error(*pair) for pair in zip(together_NV, alone_NV, strict=False)) < bound


@compiled
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.01), (torch.int8, 0.02)])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 21])
def test_a_kernels_product_is_a_matrix_product(dtype: torch.dtype, bound: float, rows: int) -> None:
    """With the input normalised or not, and a residual added or not."""
    generator = torch.Generator().manual_seed(rows)
    weight_NK, x_TK = torch.randn(96, 64, generator=generator), torch.randn(rows, 64, generator=generator).bfloat16()
    residual_TN = torch.randn(rows, 96, generator=generator).bfloat16()
    packed, nothing = pack(weight_NK, dtype), torch.empty(0, dtype=torch.bfloat16)
    plain_TN = x_TK.float() @ weight_NK.T
    assert relative_error(kernels().linear(x_TK, *packed, -1.0, nothing), plain_TN) < bound
    assert relative_error(kernels().linear(x_TK, *packed, -1.0, residual_TN), plain_TN + residual_TN) < bound
    normalised_TN = torch.nn.functional.rms_norm(x_TK.float(), (64,), eps=1e-5) @ weight_NK.T
    assert relative_error(kernels().linear(x_TK, *packed, 1e-5, nothing), normalised_TN) < bound


@compiled
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.02), (torch.int8, 0.05)])
@pytest.mark.parametrize("tokens", [1, 5, 40])
def test_a_kernels_experts_are_the_plain_ones(
    model: Transformer, dtype: torch.dtype, bound: float, tokens: int
) -> None:
    layer, config = model.layers[0], model.config
    x_TD = torch.randn(tokens, config.hidden_size, generator=torch.Generator().manual_seed(tokens)).bfloat16()
    block = KernelTransformer(model, dtype).blocks[0]
    with torch.inference_mode():
        wanted_TD, _, wanted = layer.moe(layer.post_attention_layernorm(x_TD.float()))
        y_TD, _, choices_Tk, weights_Tk = kernels().experts(
            x_TD, block.router_ED, *block.gate_up, *block.down, config.num_experts_per_tok, config.rms_norm_eps
        )
    assert torch.equal(choices_Tk, wanted.choices_Tk)
    torch.testing.assert_close(weights_Tk, wanted.weights_Tk, atol=1e-4, rtol=1e-4)
    assert relative_error(y_TD, x_TD.float() + wanted_TD) < bound


def test_shapes_that_the_kernels_cannot_compute_are_told(model: Transformer) -> None:
    assert fits(model.config)
    assert not fits(tiny.config(vocab_size=290))

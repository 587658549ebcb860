"""The packed network computes what the plain one does: all ways to multiply experts, alone and in a batch.

Logits of the small networks here have a standard deviation near 1; bfloat16 has 8 bits, 8-bit weights and inputs are
rounded to half a 127th of the largest.
"""

from statistics import median

import pytest
import torch
from torch import Tensor

from serving.packed_matrix import Bf16Matrix, Int8Matrix, Matrix, bucket, buckets
from serving.packed_model import PackedTransformer, rotary_packed, rotate_packed
from serving.runner import Runner
from serving.scheduler import Chunk, Sequence
from tests.trainer import tiny
from trainer.model.attention import rotary_tables, rotate
from trainer.model.moe import MoE
from trainer.model.transformer import Transformer

BLOCK = 4
PACKINGS = [pytest.param(Bf16Matrix, 0.03, id="bf16"), pytest.param(Int8Matrix, 0.06, id="int8")]


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Random weights, also where a norm's weights start as ones, so that folding them in shows."""
    model = tiny.network(tiny.config(num_local_experts=8, num_experts_per_tok=2, hidden_size=64, intermediate_size=32))
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
    turned_TNK = rotate_packed(x_TNK, *rotary_packed(config, positions_T))
    plain_HTK = rotate(
        x_TNK[:, :heads].transpose(0, 1).float(), *(t[0] for t in rotary_tables(config, positions_T[None]))
    )
    torch.testing.assert_close(turned_TNK[:, :heads].transpose(0, 1).float(), plain_HTK, atol=0.05, rtol=0.02)
    assert torch.equal(turned_TNK[:, heads:], x_TNK[:, heads:]), "values are not rotated"


@pytest.mark.parametrize("way", ["at_once", "sorted", "by_token"])
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
@pytest.mark.parametrize(("matrix", "bound"), PACKINGS)
def test_the_packed_network_is_the_plain_one(
    model: Transformer, matrix: type[Matrix], bound: float, sizes: list[int]
) -> None:
    """In one chunk, in several, and token by token; in 35 tokens there is padding."""
    tokens = torch.randint(model.config.vocab_size, (sum(sizes),), generator=torch.Generator().manual_seed(2)).tolist()
    with torch.inference_mode():
        wanted_LV = model.logits(model(torch.tensor([tokens])).hidden_BLD[0])
    found_LV = logits(Runner(PackedTransformer(model, matrix), 16, BLOCK), tokens, sizes)
    # The median, since one token's choice of experts may be too close to call.
    errors = [relative_error(found_V, wanted_V) for found_V, wanted_V in zip(found_LV, wanted_LV, strict=True)]
    assert median(errors) < 2 * bound


def test_a_sequence_does_not_see_the_rest_of_its_batch(model: Transformer) -> None:
    """Decoding beside others, of other lengths, gives what decoding alone gives, but for rounding."""
    runner = Runner(PackedTransformer(model, Bf16Matrix), 64, BLOCK)
    sequences = [
        Sequence(str(n), torch.randint(256, (length,)).tolist(), list(range(8 * n, 8 * n + 8)))
        for n, length in enumerate((5, 30, 17, 9, 23))
    ]
    for sequence in sequences:
        runner.run([Chunk(sequence, 0, len(sequence.tokens) - 1)])
    steps = [Chunk(sequence, len(sequence.tokens) - 1, 1) for sequence in sequences]
    _, together_NV = runner.run(steps)
    for step, row_V in zip(steps, together_NV, strict=True):
        _, alone_1V = runner.run([step])
        assert relative_error(row_V, alone_1V[0]) < 0.03

"""The network against transformers' Mixtral and against slow, obvious references."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.trainer import tiny
from tests.trainer.model.recompute import greedy_by_recomputing
from trainer.model import mixtral
from trainer.model.attention import QUERY_BLOCK, as_bias, attend_causal, attend_explicit, positions_of, visible
from trainer.model.generate import generate, sample
from trainer.model.moe import MoE, Routing, route
from trainer.model.transformer import Transformer, count_parameters


def moe_by_token(moe: MoE, x_TD: torch.Tensor, routing: Routing | None = None) -> torch.Tensor:
    """Each token through each of its experts, one at a time; by default those of the router's choice."""
    routing = routing or route(moe.router(x_TD), moe.config.num_experts_per_tok)
    rows = []
    for token, x_D in enumerate(x_TD):
        y_D = torch.zeros_like(x_D)
        for weight, expert in zip(routing.weights_Tk[token], routing.choices_Tk[token], strict=True):
            gate_F, up_F = (moe.gate_up_EGD[expert] @ x_D).chunk(2)
            y_D = y_D + weight * (moe.down_EDF[expert] @ (F.silu(gate_F) * up_F))
        rows.append(y_D)
    return torch.stack(rows)


@pytest.mark.parametrize("tokens", [1, 7, 200])
def test_grouped_experts_equal_the_loop_over_tokens_forward_and_backward(tokens: int) -> None:
    moe = tiny.network().layers[0].moe
    fast_x = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(tokens), requires_grad=True)
    slow_x = fast_x.detach().clone().requires_grad_()
    weights = torch.randn(tokens, 32, generator=torch.Generator().manual_seed(1))
    parameters = [moe.router.weight, moe.gate_up_EGD, moe.down_EDF]
    fast_y, slow_y = moe(fast_x)[0], moe_by_token(moe, slow_x)
    torch.testing.assert_close(fast_y, slow_y, atol=1e-5, rtol=1e-4)
    fast = torch.autograd.grad((fast_y * weights).sum(), [fast_x, *parameters])
    slow = torch.autograd.grad((slow_y * weights).sum(), [slow_x, *parameters])
    for fast_gradient, slow_gradient in zip(fast, slow, strict=True):
        torch.testing.assert_close(fast_gradient, slow_gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("length", [20, QUERY_BLOCK, 2 * QUERY_BLOCK + 11])
def test_attention_in_blocks_equals_the_fused_kernel_forward_and_backward(length: int, window: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, heads, length, 8, generator=generator, requires_grad=True) for heads in (4, 2, 2)]
    segments = torch.randint(0, 3, (3, length), generator=generator).sort(dim=1).values
    bias = as_bias(visible(tiny.config(sliding_window=window), length, segments, torch.device("cpu")), torch.float32)
    weights = torch.randn(3, 4, length, 8, generator=generator)
    fused = F.scaled_dot_product_attention(*inputs, attn_mask=bias, enable_gqa=True)
    expected = torch.autograd.grad((fused * weights).sum(), inputs)
    for attention in (attend_causal, attend_explicit):
        out = attention(*inputs, bias)
        torch.testing.assert_close(out, fused, atol=1e-5, rtol=1e-4)
        for got, wanted in zip(torch.autograd.grad((out * weights).sum(), inputs), expected, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("window", [None, 16])
def test_a_checkpoint_opens_in_unmodified_transformers_with_equal_logits(tmp_path: Path, window: int | None) -> None:
    from transformers import MixtralForCausalLM

    shape = tiny.config(sliding_window=window)
    model = tiny.network(shape)
    mixtral.save_weights(tmp_path, shape, model.state_dict(), tiny.tokenizer())
    theirs = MixtralForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    tokens = torch.randint(tiny.VOCABULARY, (3, 60), generator=torch.Generator().manual_seed(0))
    ours = model.logits(model(tokens).hidden_BLD)
    assert ours.std() > 0.1, "logits so flat that wrong weights would pass"
    torch.testing.assert_close(ours, theirs(tokens).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes", [{}, {"tie_word_embeddings": True}, {"sliding_window": 16, "aggregate_slots": 4}], ids=str
)
def test_export_then_import_is_the_identity(tmp_path: Path, changes: dict[str, Any]) -> None:
    shape = tiny.config(**changes)
    model = tiny.network(shape)
    mixtral.save_weights(tmp_path, shape, model.state_dict(), tiny.tokenizer())
    again = mixtral.load_model(tmp_path)
    assert again.config == shape
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_missing_misshapen_or_unknown_tensor_is_named() -> None:
    shape = tiny.config()
    whole = mixtral.to_mixtral(shape, tiny.network(shape).state_dict())
    name = "model.layers.1.block_sparse_moe.experts.3.w2.weight"
    with pytest.raises(ValueError, match=name):
        mixtral.from_mixtral(shape, {key: value for key, value in whole.items() if key != name})
    with pytest.raises(ValueError, match=r"no place for tensor 'model\.extra'"):
        mixtral.from_mixtral(shape, {**whole, "model.extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="embed_tokens"):
        mixtral.from_mixtral(shape, {**whole, "model.embed_tokens.weight": torch.zeros(3, 3)})


@pytest.mark.parametrize("window", [None, 8])
def test_no_token_sees_a_later_one(window: int | None) -> None:
    model = tiny.network(tiny.config(sliding_window=window))
    tokens = torch.randint(tiny.VOCABULARY, (1, 40), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 25:] = 7
    before, after = (model(t).hidden_BLD[0, :25] for t in (tokens, changed))
    torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-5)


def test_a_packed_document_gives_the_hidden_states_it_has_alone() -> None:
    model = tiny.network()
    tokens = torch.randint(tiny.VOCABULARY, (1, 40), generator=torch.Generator().manual_seed(0))
    segments = torch.tensor([[1] * 15 + [2] * 25])
    packed = model(tokens, segments_BL=segments).hidden_BLD
    torch.testing.assert_close(packed[:, 15:], model(tokens[:, 15:]).hidden_BLD, atol=1e-5, rtol=1e-4)
    assert positions_of(segments)[0].tolist() == [*range(15), *range(25)]


@pytest.mark.parametrize("window", [None, 8])
def test_batched_generation_equals_recomputing_every_token(window: int | None) -> None:
    model = tiny.network(tiny.config(sliding_window=window))
    prompts = [[3, 4, 5], [7] * 20, [9, 8, 7, 6], [11]]
    completions = generate(model, prompts, max_new_tokens=25, end_id=2)
    for prompt, completion in zip(prompts, completions, strict=True):
        expected, logprobs = greedy_by_recomputing(model, prompt, 25, end_id=2)
        assert completion.tokens == expected
        assert completion.finished == (expected[-1] == 2)
        torch.testing.assert_close(torch.tensor(completion.logprobs), torch.tensor(logprobs), atol=1e-4, rtol=1e-3)


def test_sampled_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([2.0, -1.0, 0.5, -torch.inf, 1.0])
    tokens, logprobs = sample(logits.expand(40_000, 5), 0.7, torch.Generator().manual_seed(0))
    expected = (logits / 0.7).softmax(dim=0)
    torch.testing.assert_close(torch.bincount(tokens, minlength=5) / 40_000, expected, atol=0.01, rtol=0)
    assert not (tokens == 3).any(), "a token of probability 0 was drawn"
    torch.testing.assert_close(logprobs, expected[tokens].log())


def test_finished_rows_leave_the_others_unchanged() -> None:
    """With an end token that many rows hit early, compaction must not mix rows up."""
    model = tiny.network()
    prompts = [[token, token + 1] for token in range(40, 56)]
    free = generate(model, prompts, max_new_tokens=20, end_id=-1 % tiny.VOCABULARY)
    end = max((c.tokens[3] for c in free), key=[c.tokens[3] for c in free].count)
    for whole, cut in zip(free, generate(model, prompts, max_new_tokens=20, end_id=end), strict=True):
        stop = whole.tokens.index(end) + 1 if end in whole.tokens else len(whole.tokens)
        assert cut.tokens == whole.tokens[:stop]


def test_a_prompt_that_fills_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="64 tokens fills the context of 64"):
        generate(tiny.network(), [[1] * 64], max_new_tokens=1, end_id=2)


def test_counted_parameters_are_those_that_exist() -> None:
    shape = tiny.config()
    counted = count_parameters(shape)
    assert counted.total == sum(parameter.numel() for parameter in Transformer(shape).parameters())
    assert counted.experts == 2 * 8 * 3 * 32 * 24
    assert counted.total - counted.active == 2 * 6 * 3 * 32 * 24

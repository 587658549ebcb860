"""Rows longer than the window, against references that look at one query at a time."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.trainer import tiny
from tests.trainer.model.recompute import greedy_by_recomputing
from trainer.model import mixtral
from trainer.model.attention import Far, as_bias, attend, positions_of, rotary_tables, rotate, visible
from trainer.model.config import ModelConfig
from trainer.model.decode_cache import LeftPaddedCache
from trainer.model.generate import generate
from trainer.model.long_context import absorb, hold, lay_out, slot_counts, slot_means, slot_span
from trainer.model.long_rows import BlockRows, FlexRows, block_bias, look
from trainer.model.transformer import Transformer


def long_config(window: int = 8, slots: int = 4, **changes: Any) -> ModelConfig:
    return tiny.config(
        **{"sliding_window": window, "aggregate_slots": slots, "max_position_embeddings": 4096, **changes}
    )


def random_segments(rows: int, length: int, seed: int, documents: int = 3) -> Tensor:
    return torch.randint(documents, (rows, length), generator=torch.Generator().manual_seed(seed)).sort(dim=1).values


def random_tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(3, tiny.VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


# -- the window ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [4, 7, 8, 16])
@pytest.mark.parametrize("length", [17, 32, 45])
def test_attention_by_blocks_equals_the_full_masked_one_forward_and_backward(window: int, length: int) -> None:
    shape, segments = long_config(window, slots=0), random_segments(3, length, seed=length)
    generator = torch.Generator().manual_seed(window)
    q = torch.randn(3, 4, length, 8, generator=generator, requires_grad=True)
    k, v = (torch.randn(3, 2, length, 8, generator=generator, requires_grad=True) for _ in range(2))
    rows = look(shape, segments, segments, q.dtype)
    assert isinstance(rows, BlockRows)
    fast = rows.attend(q, k, v, None)
    slow = attend(q, k, v, as_bias(visible(shape, length, segments, q.device), q.dtype))
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    weights = torch.randn(fast.shape, generator=generator)
    fast_gradients = torch.autograd.grad((fast * weights).sum(), [q, k, v])
    slow_gradients = torch.autograd.grad((slow * weights).sum(), [q, k, v])
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("slots", [0, 256])
def test_what_a_long_row_needs_grows_with_its_length_not_its_square(slots: int) -> None:
    sizes = {}
    for length in (4_096, 8_192):
        rows = look(long_config(1_024, slots), torch.zeros(1, length).long(), None, torch.bfloat16)
        assert isinstance(rows, BlockRows)
        sizes[length] = rows.bias_X1CT.numel()
    assert sizes[4_096] == 4_096 * (1_024 + 256 + slots)
    assert sizes[8_192] == 2 * sizes[4_096]


# -- the aggregate ---------------------------------------------------------------------------------------------------


def slots_one_by_one(n: int, slots: int) -> list[list[int]]:
    """Which summaries lie together when n have come in one after the other."""
    held: list[list[int]] = []
    span = 1
    for summary in range(n):
        if len(held) == slots and len(held[-1]) == span:
            held = [held[i] + held[i + 1] for i in range(0, slots, 2)]
            span *= 2
        if held and len(held[-1]) < span:
            held[-1].append(summary)
        else:
            held.append([summary])
    return held


def attend_one_by_one(
    config: ModelConfig, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, salience_BGL: Tensor, segments: Tensor
) -> Tensor:
    """One row, head and query at a time, over keys that are not rotated yet."""
    B, H, L, _ = q_BHLK.shape
    positions = positions_of(segments)
    out = torch.zeros_like(q_BHLK)
    for b in range(B):
        for h in range(H):
            g = h // (H // k_BGLK.shape[1])
            for t in range(L):
                first = t - int(positions[b, t])
                args = (q_BHLK[b, h, first : t + 1], k_BGLK[b, g, first : t + 1], v_BGLK[b, g, first : t + 1])
                out[b, h, t] = last_query(config, *args, salience_BGL[b, g, first : t + 1])
    return out


def last_query(config: ModelConfig, q_LK: Tensor, k_LK: Tensor, v_LK: Tensor, salience_L: Tensor) -> Tensor:
    """Attention of the last token of a document to all of it."""
    W, S, p = config.sliding_window, config.chunk, len(q_LK) - 1
    assert W is not None
    query_K = turned(config, q_LK[p], p)
    scores, values = [], []
    for at in range(max(0, p - W + 1), p + 1):
        scores.append(query_K @ turned(config, k_LK[at], at))
        values.append(v_LK[at])
    gone = [j for j in range(p) if p - j * S >= W]  # chunks whose first token has left the window
    for together in slots_one_by_one(len(gone), config.aggregate_slots):
        keys, means = [], []
        for j in together:
            weights_S = salience_L[j * S : (j + 1) * S].softmax(dim=0)
            keys.append(weights_S @ k_LK[j * S : (j + 1) * S])
            means.append(weights_S @ v_LK[j * S : (j + 1) * S])
        key_K = turned(config, torch.stack(keys).mean(dim=0), (p // S - 3) * S)
        scores.append(query_K @ key_K + math.sqrt(len(query_K)) * math.log(S * len(together)))
        values.append(torch.stack(means).mean(dim=0))
    weights = (torch.stack(scores) / math.sqrt(len(query_K))).softmax(dim=0)
    return weights @ torch.stack(values)


def turned(config: ModelConfig, x_K: Tensor, position: int) -> Tensor:
    cos, sin = rotary_tables(config, torch.tensor([[position]]))
    return rotate(x_K.view(1, 1, 1, -1), cos, sin).flatten()


@pytest.mark.parametrize(("slots", "documents"), [(4, 1), (4, 3), (64, 2)])
def test_attention_with_slots_equals_the_loop_over_queries_forward_and_backward(slots: int, documents: int) -> None:
    shape, length = long_config(8, slots), 75
    segments = random_segments(2, length, seed=slots, documents=documents)
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 2, length, 8, generator=generator, requires_grad=True)
    k, v = (torch.randn(2, 1, length, 8, generator=generator, requires_grad=True) for _ in range(2))
    salience = torch.randn(2, 1, length, generator=generator, requires_grad=True)
    tables = rotary_tables(shape, positions_of(segments))
    rows = look(shape, segments, segments, q.dtype)
    assert isinstance(rows, BlockRows)
    fast = rows.attend(rotate(q, *tables), rotate(k, *tables), v, Far(k, salience))
    slow = attend_one_by_one(shape, q, k, v, salience, segments)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-4)
    weights = torch.randn(fast.shape, generator=generator)
    inputs = [q, k, v, salience]
    fast_gradients = torch.autograd.grad((fast * weights).sum(), inputs)
    slow_gradients = torch.autograd.grad((slow * weights).sum(), inputs)
    for one, other in zip(fast_gradients, slow_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@given(n=st.integers(1, 200), slots=st.sampled_from([2, 4, 6, 16]))
def test_slots_filled_one_by_one_are_those_of_the_prefix_sums(n: int, slots: int) -> None:
    summaries = torch.randn(1, n, 2, 3, generator=torch.Generator().manual_seed(n))
    sums = torch.zeros(1, 2, slots, 3)
    for at in range(n):
        sums = absorb(sums, summaries[:, at], torch.tensor([at]), torch.tensor([True]))
    counts = slot_counts(torch.tensor([n]), slots)
    expected = [len(together) for together in slots_one_by_one(n, slots)]
    assert counts[0].tolist() == expected + [0] * (slots - len(expected))
    held = hold(summaries, torch.zeros(1, 1).long(), torch.tensor([[n]]), slots)[:, 0]
    filled = counts[0] > 0
    torch.testing.assert_close(held[:, :, filled], slot_means(sums, counts)[:, :, filled], atol=1e-5, rtol=1e-4)


@given(n=st.integers(0, 2**40), slots=st.sampled_from([2, 6, 256]))
def test_a_slot_holds_the_least_power_of_two_that_fits(n: int, slots: int) -> None:
    span = int(slot_span(torch.tensor(n), slots))
    assert span & (span - 1) == 0
    assert slots * span >= n
    assert span == 1 or slots * span // 2 < n


def test_a_row_where_nothing_is_due_keeps_its_slots() -> None:
    sums, summary = torch.randn(2, 1, 4, 3), torch.randn(2, 1, 3)
    after = absorb(sums, summary, torch.tensor([4, 4]), torch.tensor([False, True]))
    assert torch.equal(after[0], sums[0])
    assert not torch.equal(after[1], sums[1])


def test_every_token_of_its_document_reaches_every_later_query_and_none_of_another_does() -> None:
    """One layer: what reaches it does so directly, in the window or in a slot; nothing falls between."""
    shape, length = long_config(8, 4), 50
    segments = torch.tensor([[1] * 3 + [2] * 41 + [3] * 6])
    q, k, v = torch.randn(3, 1, 1, length, 8, generator=torch.Generator().manual_seed(0))
    v.requires_grad_()
    rows = look(shape, segments, segments, q.dtype)
    assert isinstance(rows, BlockRows)
    out_L = rows.attend(q, k, v, Far(k, torch.zeros(1, 1, length))).sum(dim=(0, 1, 3))
    for query in range(length):
        (reached,) = torch.autograd.grad(out_L[query], v, retain_graph=True)
        expected = (segments[0] == segments[0, query]) & (torch.arange(length) <= query)
        assert torch.equal(reached.abs().sum(dim=(0, 1, 3)) > 0, expected), query


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(("window", "length", "slots"), [(8, 70, 4), (8, 300, 16), (200, 700, 4), (200, 700, 64)])
def test_flex_attention_equals_blocks_and_looks_into_every_tile_it_must(window: int, length: int, slots: int) -> None:
    """FlexAttention is for GPUs; without its compiler the same call runs here, and tells no tile from another."""
    shape, segments = long_config(window, slots), random_segments(2, length, seed=2, documents=2)
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, length, 8, generator=generator)
    k, v, unrotated = torch.randn(3, 2, 2, length, 8, generator=generator)
    layout, far = lay_out(shape, segments), Far(unrotated, torch.randn(2, 2, length, generator=generator))
    assert layout.slots is not None
    blocks, flex = BlockRows(layout, block_bias(layout, q.dtype)), FlexRows.over(layout)
    torch.testing.assert_close(flex.attend(q, k, v, far), blocks.attend(q, k, v, far), atol=1e-5, rtol=1e-4)
    P, T = flex.mask.seq_lengths
    row, query, key = torch.arange(2).view(-1, 1, 1), torch.arange(P).view(-1, 1), torch.arange(T)
    needed = flex.mask.mask_mod(row, torch.tensor(0), query, key).view(2, P // 128, 128, T // 128, 128).any(dim=4)
    assert not (needed.any(dim=2).any(dim=0) & (flex.mask.to_dense()[0, 0] == 0)).any()


# -- the network -----------------------------------------------------------------------------------------------------


def test_up_to_the_window_the_network_is_transformers_mixtral(tmp_path: Path) -> None:
    from transformers import MixtralForCausalLM

    shape = long_config(32, 4)
    model = tiny.network(shape)
    mixtral.save_weights(tmp_path, shape, model.state_dict(), tiny.tokenizer())
    theirs = MixtralForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert theirs.config.max_position_embeddings == 32
    tokens = random_tokens(3, 40)
    ours = model.logits(model(tokens[:, :32]).hidden_BLD)
    torch.testing.assert_close(ours, theirs(tokens[:, :32]).logits, atol=1e-4, rtol=0)
    longer = model.logits(model(tokens).hidden_BLD)
    torch.testing.assert_close(longer[:, :32], ours, atol=1e-4, rtol=0)
    assert (longer - theirs(tokens).logits)[:, 32:].abs().max() > 1e-2, "beyond it, the slots must show"


@pytest.mark.parametrize("length", [15, 16, 17, 19, 20, 21, 33, 64, 75])
def test_no_token_sees_a_later_one(length: int) -> None:
    model, tokens = tiny.network(long_config(16, 4)), random_tokens(1, length)
    whole = model(tokens).hidden_BLD
    for at in {1, 3, 4, 15, 16, 17, 20, length - 2, length - 1} & set(range(length)):
        changed = tokens.clone()
        changed[0, at] = 2
        difference_L = (model(changed).hidden_BLD - whole)[0].abs().amax(dim=1)
        assert difference_L[:at].sum() <= 1e-5 * at, at
        assert (difference_L[at:] > 1e-6).all(), "and every later token sees it"


@pytest.mark.parametrize("before", [1, 5, 16, 23])
def test_a_packed_document_gives_the_hidden_states_it_has_alone(before: int) -> None:
    model = tiny.network(long_config(16, 4))
    tokens = random_tokens(1, before + 80)
    segments = torch.tensor([[1] * before + [2] * 71 + [3] * 9])
    packed = model(tokens, segments_BL=segments).hidden_BLD
    for first, end in ((0, before), (before, before + 71), (before + 71, before + 80)):
        alone = model(tokens[:, first:end]).hidden_BLD
        torch.testing.assert_close(packed[:, first:end], alone, atol=1e-4, rtol=1e-3)


def test_recomputed_activations_give_the_same_gradients() -> None:
    model, tokens = tiny.network(long_config(16, 4)), random_tokens(2, 50)
    gradients = []
    for recompute in (False, True):
        model.checkpoint_activations = recompute
        loss = model.logits(model(tokens).hidden_BLD).square().mean()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for kept, recomputed in zip(*gradients, strict=True):
        assert kept.abs().sum() > 0
        torch.testing.assert_close(kept, recomputed)


# -- decoding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [0, 4])
def test_generation_past_the_window_equals_recomputing_every_token(slots: int) -> None:
    """Prompts shorter and longer than the window; slots fill up and are merged; rows end at different times."""
    model = tiny.network(long_config(16, slots))
    prompts = [[3, 4, 5], random_tokens(1, 30, seed=5)[0].tolist(), [9] * 75, random_tokens(1, 41, seed=6)[0].tolist()]
    completions = generate(model, prompts, max_new_tokens=60, end_id=2)
    for prompt, completion in zip(prompts, completions, strict=True):
        expected, logprobs = greedy_by_recomputing(model, prompt, 60, end_id=2)
        assert completion.tokens == expected
        torch.testing.assert_close(torch.tensor(completion.logprobs), torch.tensor(logprobs), atol=1e-3, rtol=1e-3)


def cache_bytes(model: Transformer, prompt: int, capacity: int) -> int:
    """What the cache of one sequence holds after its prompt and one more token."""
    cache = LeftPaddedCache(model.config, torch.tensor([prompt]), capacity, torch.float32)
    with torch.no_grad():
        model(random_tokens(1, prompt), cache=cache)
        model(random_tokens(1, 1), positions_BL=torch.tensor([[prompt]]), cache=cache)
    kept = [*cache.keys, *cache.values, *cache.salience, *(tensor for sums in cache.sums for tensor in sums)]
    return sum(tensor.nbytes for tensor in kept)


@pytest.mark.parametrize("slots", [0, 4])
def test_beyond_the_window_a_sequence_takes_no_more_memory(slots: int) -> None:
    model = tiny.network(long_config(16, slots))
    assert cache_bytes(model, 10, 12) < cache_bytes(model, 30, 40) == cache_bytes(model, 300, 3_000)


# -- checkpoints and configurations ----------------------------------------------------------------------------------


def test_a_checkpoint_without_what_mixtral_has_no_name_for_is_refused(tmp_path: Path) -> None:
    shape = long_config(16, 4)
    mixtral.save_weights(tmp_path, shape, tiny.network(shape).state_dict(), tiny.tokenizer())
    (tmp_path / mixtral.OWN_WEIGHTS).unlink()
    with pytest.raises(ValueError, match=mixtral.OWN_WEIGHTS):
        mixtral.load_model(tmp_path)


@pytest.mark.parametrize(("window", "told"), [(None, "needs a sliding_window"), (10, "multiple of 4, not 10")])
def test_an_aggregate_without_a_window_in_quarters_is_refused(window: int | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        tiny.config(sliding_window=window, aggregate_slots=4)

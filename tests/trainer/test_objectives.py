"""Every loss against a slow, obvious loop over plain numbers, and its gradient against finite differences."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trainer import objectives

B, L, V, T, E, P = 3, 4, 5, 7, 4, 6
CLIP = {"clip_low": 0.2, "clip_high": 0.28}


def draw(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check_gradient(loss: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Analytic against numeric slope along a random direction; in float32, as the losses compute."""
    inputs = tuple(x.float().requires_grad_() for x in inputs)
    gradients = torch.autograd.grad(loss(*inputs), inputs)
    directions = [torch.randn(x.shape, generator=torch.Generator().manual_seed(9)) for x in inputs]
    h = 1e-3  # small enough that no token changes its experts
    with torch.no_grad():
        up, down = (
            loss(*(x + sign * h * d for x, d in zip(inputs, directions, strict=True))).item() for sign in (1, -1)
        )
    slope = sum((g * d).sum().item() for g, d in zip(gradients, directions, strict=True))
    assert (up - down) / (2 * h) == pytest.approx(slope, abs=2e-3, rel=2e-2)


@pytest.mark.parametrize("chunk", [1, 5, 64])
def test_chunked_cross_entropy_is_that_of_all_scores_at_once(chunk: int) -> None:
    hidden, weight = draw(T, E).float().requires_grad_(), draw(V, E, seed=1).float().requires_grad_()
    targets, mask = torch.arange(T) % V, torch.tensor([True, False, True, True, False, True, True])
    fast = 2 * objectives.chunked_cross_entropy(hidden, weight, targets, mask, chunk)
    slow = 2 * objectives.masked_cross_entropy((hidden @ weight.T)[None], targets[None], mask[None])
    torch.testing.assert_close(fast, slow)
    for got, expected in zip(*(torch.autograd.grad(x, [hidden, weight]) for x in (fast, slow)), strict=True):
        torch.testing.assert_close(got, expected)
    assert objectives.chunked_cross_entropy(hidden, weight, targets, torch.zeros_like(mask), chunk) == 0


def test_a_loss_scale_keeps_gradients_of_chunked_cross_entropy_in_the_range_of_fp16() -> None:
    """A mean over many tokens and words has gradients below fp16's smallest magnitude, so the scale must come first."""
    tokens, words = 4096, 2000
    hidden, weight = draw(tokens, E).half().requires_grad_(), draw(words, E, seed=1, scale=0.1).half().requires_grad_()
    targets, mask = torch.arange(tokens) % 7, torch.ones(tokens, dtype=torch.bool)
    wanted = objectives.masked_cross_entropy((hidden.float() @ weight.float().T)[None], targets[None], mask[None])
    scaled = 2**16 * objectives.chunked_cross_entropy(hidden, weight, targets, mask)
    for got, expected in zip(
        *(torch.autograd.grad(x, [hidden, weight]) for x in (scaled, wanted * 2**16)), strict=True
    ):
        assert (got.float() - expected.float()).norm() < 2e-3 * expected.float().norm()


def test_token_logprobs_are_the_log_of_the_softmax() -> None:
    logits, targets = draw(B, L, V, scale=3), torch.arange(B * L).view(B, L) % V
    fast = objectives.token_logprobs(logits, targets)
    for b in range(B):
        for position in range(L):
            row = logits[b, position].tolist()
            expected = math.log(math.exp(row[targets[b, position]]) / sum(math.exp(z) for z in row))
            assert fast[b, position].item() == pytest.approx(expected, abs=1e-5)
    check_gradient(lambda x: objectives.token_logprobs(x, targets).square().mean(), logits)


def test_cross_entropy_averages_over_the_masked_tokens_only() -> None:
    logits, targets = draw(B, L, V), torch.ones(B, L, dtype=torch.long)
    mask = torch.zeros(B, L, dtype=torch.bool)
    mask[0, 1] = mask[2, 3] = True
    logps = objectives.token_logprobs(logits, targets)
    expected = -(logps[0, 1] + logps[2, 3]) / 2
    loss = objectives.masked_cross_entropy(logits, targets, mask)
    torch.testing.assert_close(loss, expected)
    unseen = logits.clone()
    unseen[1] += 10
    assert objectives.masked_cross_entropy(unseen, targets, mask) == loss
    check_gradient(lambda x: objectives.masked_cross_entropy(x, targets, mask), logits)


def test_an_empty_mask_is_a_loss_of_zero_with_zero_gradient() -> None:
    logits = draw(B, L, V).requires_grad_()
    loss = objectives.masked_cross_entropy(logits, torch.zeros(B, L), torch.zeros(B, L, dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def slow_balance(logits: list[list[float]], top_k: int) -> float:
    experts, tokens = len(logits[0]), len(logits)
    share, probability = [0.0] * experts, [0.0] * experts
    for row in logits:
        for expert in sorted(range(experts), key=lambda e: -row[e])[:top_k]:
            share[expert] += 1 / (top_k * tokens)
        total = sum(math.exp(z) for z in row)
        for expert in range(experts):
            probability[expert] += math.exp(row[expert]) / total / tokens
    return experts * sum(f * p for f, p in zip(share, probability, strict=True))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_balance_loss(top_k: int) -> None:
    logits = draw(T, E, scale=2)
    expected = slow_balance(logits.tolist(), top_k)
    assert objectives.router_balance_loss(logits, top_k).item() == pytest.approx(expected, abs=1e-5)
    everyone = torch.ones(T, dtype=torch.bool)
    assert objectives.router_balance_loss(logits, top_k, everyone).item() == pytest.approx(expected, abs=1e-5)
    check_gradient(lambda x: objectives.router_balance_loss(x, top_k), logits)


def test_balance_loss_is_one_for_an_even_load_and_more_for_a_collapsed_one() -> None:
    even = 5 * torch.eye(E).repeat(3, 1)
    assert objectives.router_balance_loss(even, 1).item() == pytest.approx(1.0, abs=1e-5)
    collapsed = torch.tensor([[5.0, 0, 0, 0]]).repeat(T, 1)
    assert objectives.router_balance_loss(collapsed, 1).item() > 3.5


def slow_group_balance(logits: list[list[float]], top_k: int, groups: list[int]) -> float:
    """The groups' own balance losses over the probabilities given the group, weighted by the groups' load."""
    tokens, total, start = len(logits), 0.0, 0
    ranked = [sorted(range(len(row)), key=lambda e, row=row: -row[e])[:top_k] for row in logits]  # type: ignore[misc]
    weights = [[math.exp(z) / sum(map(math.exp, row)) for z in row] for row in logits]
    for size in groups:
        members = range(start, start + size)
        load = [sum(e in best for best in ranked) / (top_k * tokens) for e in members]
        mass = [sum(row[e] for row in weights) / tokens for e in members]
        if sum(load):
            inside = sum(f / sum(load) * p / sum(mass) for f, p in zip(load, mass, strict=True))
            total += sum(load) * size * inside
        start += size
    return total


@pytest.mark.parametrize("groups", [[E], [1, E - 1], [2, 1, E - 3]])
def test_balance_loss_within_groups(groups: list[int]) -> None:
    logits = draw(T, E, scale=2)
    expected = slow_group_balance(logits.tolist(), 2, groups)
    assert objectives.router_balance_loss(logits, 2, groups=groups).item() == pytest.approx(expected, abs=1e-5)
    check_gradient(lambda x: objectives.router_balance_loss(x, 2, groups=groups), logits)


def test_balance_within_groups_leaves_the_groups_load_to_the_data() -> None:
    """Even inside each group it is 1 and pulls at nothing, whatever the groups get; uneven inside it is more."""
    skewed = torch.tensor([[9.0, 0, -9, -9], [0, 9.0, -9, -9]]).repeat(8, 1)
    rare = torch.tensor([[-9.0, -9, 9, 0], [-9, -9, 0, 9.0]])
    logits = torch.cat([skewed, rare]).requires_grad_()
    loss = objectives.router_balance_loss(logits, 1, groups=[2, 2])
    assert loss.item() == pytest.approx(1.0, abs=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-5
    assert objectives.router_balance_loss(logits.detach(), 1).item() > 1.5
    uneven = logits.detach()[:, [1, 0, 2, 3]].clone()
    uneven[:, 0] += 20
    assert objectives.router_balance_loss(uneven, 1, groups=[2, 2]).item() > 1.5


def test_specialisation_loss() -> None:
    logits, group = draw(T, E), torch.arange(T) % 3 - 1
    groups = [1, E - 1]
    expected, counted = 0.0, 0
    for row, number in zip(logits.tolist(), group.tolist(), strict=True):
        if number >= 0:
            own = row[:1] if number == 0 else row[1:]
            expected -= math.log(sum(map(math.exp, own)) / sum(map(math.exp, row)))
            counted += 1
    assert objectives.specialisation_loss(logits, group, groups).item() == pytest.approx(expected / counted, abs=1e-5)
    check_gradient(lambda x: objectives.specialisation_loss(x, group, groups), logits)
    assert objectives.specialisation_loss(logits, torch.full((T,), -1), groups).item() == 0


def test_structure_loss_weighs_tokens_by_their_routing_and_teaches_no_router() -> None:
    logits, labels, routed = draw(T, 5), torch.arange(T) % 5, torch.linspace(0, 1, T).requires_grad_()
    each = [
        r * (math.log(sum(map(math.exp, row))) - row[label])
        for row, label, r in zip(logits.tolist(), labels.tolist(), routed.tolist(), strict=True)
    ]
    loss = objectives.structure_loss(logits.requires_grad_(), labels, routed)
    assert loss.item() == pytest.approx(sum(each) / sum(routed.tolist()), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert routed.grad is None
    assert objectives.structure_loss(logits, labels, torch.zeros(T)).item() == 0


@pytest.mark.parametrize("top_k", [1, 2])
def test_padding_changes_neither_router_loss(top_k: int) -> None:
    logits, mask = draw(T, E), torch.tensor([True] * 5 + [False] * 2)
    alone, masked = logits[:5], {"mask_T": mask}
    for loss, with_mask in (
        (objectives.router_balance_loss(alone, top_k), objectives.router_balance_loss(logits, top_k, **masked)),
        (objectives.router_z_loss(alone), objectives.router_z_loss(logits, **masked)),
    ):
        torch.testing.assert_close(loss, with_mask)


def test_z_loss() -> None:
    logits = draw(T, E)
    expected = sum(math.log(sum(math.exp(z) for z in row)) ** 2 for row in logits.tolist()) / T
    assert objectives.router_z_loss(logits).item() == pytest.approx(expected, rel=1e-5)
    check_gradient(objectives.router_z_loss, logits)


def test_bradley_terry() -> None:
    chosen, rejected = draw(P, seed=1), draw(P, seed=2)
    expected = sum(math.log(1 + math.exp(r - c)) for c, r in zip(chosen.tolist(), rejected.tolist(), strict=True)) / P
    assert objectives.bradley_terry_loss(chosen, rejected).item() == pytest.approx(expected, rel=1e-5)
    check_gradient(objectives.bradley_terry_loss, chosen, rejected)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_bradley_terry_with_soft_preferences_and_margins() -> None:
    chosen, rejected = draw(P, seed=1), draw(P, seed=2)
    preference, margin = torch.linspace(0.5, 1, P), torch.linspace(2, 0, P)
    expected = 0.0
    for c, r, q, m in zip(*(values.tolist() for values in (chosen, rejected, preference, margin)), strict=True):
        expected -= (q * math.log(sigmoid(c - r - m)) + (1 - q) * math.log(sigmoid(r - c))) / P
    loss = objectives.bradley_terry_loss(chosen, rejected, preference, margin)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    check_gradient(lambda c, r: objectives.bradley_terry_loss(c, r, preference.to(c), margin.to(c)), chosen, rejected)


def test_a_tie_draws_two_scores_together() -> None:
    scores = torch.tensor([3.0, -1.0], requires_grad=True)
    objectives.bradley_terry_loss(scores[:1], scores[1:], torch.tensor([0.5])).backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0] > 0 > scores.grad[1]
    even = objectives.bradley_terry_loss(torch.zeros(1), torch.zeros(1), torch.tensor([0.5]))
    assert even.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_preference_losses(smoothing: float) -> None:
    margins = draw(P, seed=1)
    found = objectives.preference_loss(margins, "sigmoid", beta=0.3, label_smoothing=smoothing)
    for loss, h in zip(found.tolist(), margins.tolist(), strict=True):
        right, wrong = math.log(sigmoid(0.3 * h)), math.log(sigmoid(-0.3 * h))
        assert loss == pytest.approx(-(1 - smoothing) * right - smoothing * wrong, rel=1e-5)
    ipo = objectives.preference_loss(margins, "ipo", beta=0.3)
    assert ipo.tolist() == pytest.approx([(h - 1 / 0.6) ** 2 for h in margins.tolist()], rel=1e-5)


def test_smoothing_and_ipo_have_a_best_margin_and_plain_dpo_has_none() -> None:
    margins = torch.linspace(-20, 60, 8001)
    best = {
        name: margins[objectives.preference_loss(margins, kind, beta=0.1, label_smoothing=smoothing).argmin()].item()
        for name, kind, smoothing in (("plain", "sigmoid", 0.0), ("smooth", "sigmoid", 0.1), ("ipo", "ipo", 0.0))
    }
    assert best["plain"] == 60
    assert best["smooth"] == pytest.approx(math.log(0.9 / 0.1) / 0.1, abs=0.05)
    assert best["ipo"] == pytest.approx(5, abs=0.02)


def dpo(chosen: Tensor, rejected: Tensor, **changes: float) -> Tensor:
    lengths = torch.arange(1, P + 1).float()
    reference = draw(P, seed=3).to(chosen), draw(P, seed=4).to(chosen)
    values = {"beta": 0.3, "likelihood_weight": 0.2} | changes
    return objectives.dpo_loss(chosen, rejected, *reference, chosen_lengths_P=lengths, **values)  # type: ignore[arg-type]


def test_dpo() -> None:
    chosen, rejected, reference_chosen, reference_rejected = (draw(P, seed=seed) for seed in (1, 2, 3, 4))
    expected = 0.0
    for i in range(P):
        margin = 0.3 * ((chosen[i] - reference_chosen[i]) - (rejected[i] - reference_rejected[i])).item()
        expected += (math.log(1 + math.exp(-margin)) - 0.2 * chosen[i].item() / (i + 1)) / P
    assert dpo(chosen, rejected).item() == pytest.approx(expected, rel=1e-5)
    check_gradient(dpo, chosen, rejected)


def test_dpo_starts_at_log_two_and_its_added_term_pushes_the_chosen_answer_up() -> None:
    same = draw(P)
    lengths = torch.ones(P)
    loss = objectives.dpo_loss(same, same, same, same, beta=0.1, chosen_lengths_P=lengths)
    assert loss.item() == pytest.approx(math.log(2))
    chosen, rejected = draw(P, seed=1).requires_grad_(), draw(P, seed=2)
    (with_term,) = torch.autograd.grad(dpo(chosen, rejected), chosen)
    (without,) = torch.autograd.grad(dpo(chosen, rejected, likelihood_weight=0.0), chosen)
    assert (with_term < without).all()


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=20))
def test_k3_is_never_negative_and_zero_only_without_difference(pairs: list[tuple[float, float]]) -> None:
    logps, reference = torch.tensor(pairs, dtype=torch.float64).T
    kl = objectives.k3_kl(logps, reference)
    assert (kl >= 0).all()
    assert (objectives.k3_kl(logps, logps) == 0).all()


def test_k3_averages_to_the_exact_kl_over_samples_of_the_policy() -> None:
    p, q = draw(V, seed=1), draw(V, seed=2)
    log_p, log_q = p.log_softmax(0), q.log_softmax(0)
    expectation = (log_p.exp() * objectives.k3_kl(log_p, log_q)).sum()
    exact = (log_p.exp() * (log_p - log_q)).sum()
    torch.testing.assert_close(expectation, exact)
    torch.testing.assert_close(objectives.categorical_kl(p, q).double(), exact, atol=1e-6, rtol=1e-5)
    check_gradient(lambda x: objectives.k3_kl(x, log_q.float()).mean(), log_p)


def test_advantages_are_centred_and_scaled_in_each_group() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.3, 0.3, 0.3, 0.3]])
    advantages = objectives.grpo_advantages(rewards)
    torch.testing.assert_close(advantages[0], torch.tensor([1.0, -1.0, -1.0, 1.0]), atol=1e-4, rtol=0)
    assert (advantages[1].abs() < 1e-1).all()
    shifted = objectives.grpo_advantages(5 * rewards[:1] + 7)
    torch.testing.assert_close(shifted, advantages[:1], atol=1e-4, rtol=0)


def slow_surrogate(logps: Tensor, old: Tensor, advantages: Tensor, mask: Tensor) -> float:
    total, count = 0.0, 0
    for b in range(B):
        for position in range(L):
            if mask[b, position]:
                ratio = math.exp((logps[b, position] - old[b, position]).item())
                a = advantages[b].item()
                total += min(ratio * a, min(max(ratio, 0.8), 1.28) * a)
                count += 1
    return -total / count


def test_surrogate_clips_unevenly_and_counts_each_token_once() -> None:
    logps, old, advantages = draw(B, L, seed=1, scale=0.4), draw(B, L, seed=2, scale=0.4), draw(B, seed=3)
    mask = torch.arange(L) < torch.tensor([[1], [2], [4]])
    loss = objectives.clipped_surrogate(logps, old, advantages, mask, **CLIP)
    assert loss.item() == pytest.approx(slow_surrogate(logps, old, advantages, mask))
    packed = objectives.clipped_surrogate(logps, old, advantages[:, None].expand(B, L), mask, **CLIP)
    assert packed == loss


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [
        (1.0, 1.27, True),
        (1.0, 1.29, False),
        (1.0, 0.5, True),
        (-1.0, 0.81, True),
        (-1.0, 0.79, False),
        (-1.0, 2.0, True),
    ],
)
def test_surrogate_has_no_gradient_beyond_the_clip(advantage: float, ratio: float, moves: bool) -> None:
    logps = torch.full((1, 1), math.log(ratio)).requires_grad_()
    mask = torch.ones(1, 1, dtype=torch.bool)
    loss = objectives.clipped_surrogate(logps, torch.zeros(1, 1), torch.tensor([advantage]), mask, **CLIP)
    (gradient,) = torch.autograd.grad(loss, logps)
    assert bool(gradient.abs().item() > 0) == moves


def test_at_ratio_one_the_surrogate_is_the_policy_gradient() -> None:
    logps = draw(B, L).requires_grad_()
    advantages, mask = draw(B, seed=1), torch.ones(B, L, dtype=torch.bool)
    loss = objectives.clipped_surrogate(logps, logps.detach(), advantages, mask, **CLIP)
    (gradient,) = torch.autograd.grad(loss, logps)
    torch.testing.assert_close(gradient, -advantages[:, None].expand(B, L) / (B * L))


# -- syntax ----------------------------------------------------------------------------------------------------------


def test_the_syntax_penalty_is_a_mean_of_row_means_and_zero_for_code_that_parses() -> None:
    logits_BLV = draw(3, 5, 7).requires_grad_()
    tokens_BL = torch.arange(15).view(3, 5) % 7
    error_BL = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], dtype=torch.bool)
    probs_BLV = logits_BLV.softmax(-1)
    terms = {(b, i): -(1 - probs_BLV[b, i, tokens_BL[b, i]]).log() for b, i in error_BL.nonzero().tolist()}
    expected = ((terms[0, 1] + terms[0, 2]) / 2 + terms[2, 4]) / 3
    penalty = objectives.syntax_penalty(logits_BLV, tokens_BL, error_BL)
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    found, wanted = (torch.autograd.grad(value, logits_BLV, retain_graph=True)[0] for value in (penalty, expected))
    torch.testing.assert_close(found.float(), wanted.float(), rtol=1e-4, atol=1e-6)
    assert found[0, 1, tokens_BL[0, 1]] > 0, "descent makes the token less likely"
    clean = objectives.syntax_penalty(logits_BLV, tokens_BL, torch.zeros_like(error_BL))
    (gradient,) = torch.autograd.grad(clean, logits_BLV)
    assert (clean.item(), gradient.abs().max().item()) == (0, 0)


def test_the_syntax_penalty_stays_finite_where_the_network_is_certain() -> None:
    logits_BLV = torch.tensor([[[200.0, 0.0, 0.0]]], requires_grad=True)
    penalty = objectives.syntax_penalty(
        logits_BLV, torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
    )
    assert penalty.item() == pytest.approx(200 - math.log(2), rel=1e-5)
    (gradient,) = torch.autograd.grad(penalty, logits_BLV)
    assert gradient.flatten().tolist() == pytest.approx([1.0, -0.5, -0.5])

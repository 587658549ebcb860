"""Losses: pure functions of tensors, each with its equation and where it comes from.

Shapes: T tokens, E experts, B rows, L positions of a row, V vocabulary, P pairs, G groups, K answers of a
group (or kinds of labels), N tokens with a label.
Log-probabilities are natural logarithms (nat); sums and logarithms are taken in float32.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trainer.job_settings import PreferenceLoss

# One chunk of tokens: so many logits (64 MiB in float32), and a multiple of so many tokens.
CHUNK_LOGITS, CHUNK_MULTIPLE = 2**24, 64


def token_logprobs(logits_BLV: Tensor, targets_BL: Tensor) -> Tensor:
    """log p(target) = z_target - logsumexp(z), [B, L] float32, nat.

    The caller has shifted the targets: `targets_BL[b, l]` is the token that follows position `l`.
    """
    logits_BLV = logits_BLV.float()
    chosen_BL = logits_BLV.gather(-1, targets_BL.long().unsqueeze(-1)).squeeze(-1)
    return chosen_BL - torch.logsumexp(logits_BLV, dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """sum(mask * x) / sum(mask), a scalar; 0 (with zero gradient) where the mask is empty."""
    mask = mask.to(values.dtype)
    return (values * mask).sum() / mask.sum().clamp(min=1)


def masked_cross_entropy(logits_BLV: Tensor, targets_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Mean of -log p(target) over the tokens that count, a scalar in nat per token; 0 where none counts."""
    return masked_mean(-token_logprobs(logits_BLV, targets_BL), mask_BL)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The sum over tokens; gradients are made along with it, a chunk at a time: scores of all tokens never exist.

    A sum, so that what is kept for backward is of order one: a mean's gradients would leave fp16's range before the
    loss scale that is to prevent that reaches them.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, mask_T: Tensor, chunk: int, learns: bool
    ) -> Tensor:
        loss = torch.zeros((), device=hidden_TD.device)
        grad_hidden_TD = torch.empty_like(hidden_TD)
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        for start in range(0, len(hidden_TD), chunk):
            part = slice(start, start + chunk)
            hidden_CD, targets_C1, mask_C1 = hidden_TD[part], targets_T[part, None], mask_T[part, None]
            logits_CV = (hidden_CD @ weight_VD.T).float()
            logprobs_CV = logits_CV - torch.logsumexp(logits_CV, dim=-1, keepdim=True)
            loss = loss - (logprobs_CV.gather(1, targets_C1) * mask_C1).sum()
            if not learns:
                continue
            is_target_CV = torch.arange(len(weight_VD), device=targets_C1.device) == targets_C1
            grad_CV = ((logprobs_CV.exp() - is_target_CV.float()) * mask_C1).to(hidden_TD.dtype)
            grad_hidden_TD[part] = grad_CV @ weight_VD
            grad_weight_VD += grad_CV.T @ hidden_CD
        ctx.save_for_backward(grad_hidden_TD, grad_weight_VD)
        ctx.weight_dtype = weight_VD.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        grad_hidden_TD, grad_weight_VD = ctx.saved_tensors
        grad_weight_VD = (grad_weight_VD * gradients[0]).to(ctx.weight_dtype)
        return grad_hidden_TD * gradients[0], grad_weight_VD, None, None, None, None


def chunked_cross_entropy(
    hidden_TD: Tensor, weight_VD: Tensor, targets_T: Tensor, mask_T: Tensor, chunk: int | None = None
) -> Tensor:
    """`masked_cross_entropy` of the scores hidden @ weight', a scalar in nat per token, without holding all scores.

    Memory grows with chunk x V instead of T x V; the value is the same, gradients go to hidden states and weight.

    Args:
        chunk: tokens whose scores are held at once; by default as many as have CHUNK_LOGITS of them.
    """
    chunk = chunk or max(1, CHUNK_LOGITS // len(weight_VD) // CHUNK_MULTIPLE) * CHUNK_MULTIPLE
    total: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_TD, weight_VD, targets_T, mask_T.float(), chunk, torch.is_grad_enabled()
    )
    return total / mask_T.sum().clamp(min=1)


def syntax_penalty(logits_BLV: Tensor, tokens_BL: Tensor, error_BL: Tensor) -> Tensor:
    """mean over rows of s_b, with s_b = mean over the row's error tokens of -log(1 - p_t), 0 for a row without; nat.

    Each row is code that the network itself wrote: `logits_BLV[b, l]` are the scores from which `tokens_BL[b, l]` was
    drawn with probability p_t, and `error_BL` marks the tokens of the first error node of the row's parse. What is
    trained is the unlikelihood of Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training", eq. 4,
    with these tokens as the negative ones. It is computed as -(logsumexp_(v != t) z_v - logsumexp_v z_v), which stays
    exact where p_t is nearly 1.
    """
    logits_BLV = logits_BLV.float()
    others_BLV = logits_BLV.scatter(-1, tokens_BL.unsqueeze(-1), -torch.inf)
    unlikelihood_BL = logits_BLV.logsumexp(dim=-1) - others_BLV.logsumexp(dim=-1)
    return torch.stack([masked_mean(*row) for row in zip(unlikelihood_BL, error_BL, strict=True)]).mean()


def router_balance_loss(
    router_logits_TE: Tensor, top_k: int, mask_T: Tensor | None = None, groups: Sequence[int] | None = None
) -> Tensor:
    """Load balance of one layer within each group of experts: sum_g f_g * n_g * sum_(e in g) (f_e/f_g) (P_e/P_g).

    f_e is the share of the k*T assignments that expert e gets (a count, so without gradient), P_e its mean router
    probability, f_g and P_g their sums over the n_g experts of group g. A scalar, 1 where the load inside every group
    is even, however much each group gets: the groups' load follows the data. With one group, the default, it is
    E * sum_e f_e P_e of Fedus et al. 2021, "Switch Transformers", eq. 4-6, with f over all k choices of a token.

    Args:
        mask_T: tokens outside of it (padding) do not count.
        groups: how many experts each group has, in the order of the experts.
    """
    sizes = list(groups or router_logits_TE.shape[-1:])
    probs_TE = router_logits_TE.float().softmax(dim=-1)
    chosen_TK = probs_TE.topk(top_k, dim=-1).indices
    assigned_TE = torch.zeros_like(probs_TE).scatter_(-1, chosen_TK, 1.0 / top_k)
    if mask_T is None:
        mask_T = torch.ones_like(probs_TE[:, 0])
    weights_T1 = mask_T.to(probs_TE.dtype).unsqueeze(-1)
    count = weights_T1.sum().clamp(min=1)
    share_E, prob_E = ((x_TE * weights_T1).sum(dim=0) / count for x_TE in (assigned_TE, probs_TE))
    parts = [
        len(share_e) * (share_e * prob_e).sum() / prob_e.sum().clamp(min=torch.finfo(prob_e.dtype).tiny)
        for share_e, prob_e in zip(*(torch.split(x_E, sizes) for x_E in (share_E, prob_E)), strict=True)
    ]
    return torch.stack(parts).sum()


def specialisation_loss(router_logits_TE: Tensor, group_T: Tensor, groups: Sequence[int]) -> Tensor:
    """mean_t -log sum_(e in g(t)) p_te of one layer: how little of the router's probability is on the token's group.

    The cross-entropy of the router read as a classifier of groups; a scalar in nat. `group_T` is the number of the
    group that the token's domain belongs to; tokens with a negative one (padding) do not count. The probabilities
    inside of a group stay free, and so does a share of the other groups' that its weight is too small to remove.
    """
    parts = torch.split(router_logits_TE.float().log_softmax(dim=-1), list(groups), dim=-1)
    log_TG = torch.stack([part_Te.logsumexp(dim=-1) for part_Te in parts], dim=-1)
    own_T = log_TG.gather(-1, group_T.clamp(min=0).long().unsqueeze(-1)).squeeze(-1)
    return masked_mean(-own_T, group_T >= 0)


def structure_loss(logits_NK: Tensor, labels_N: Tensor, routed_N: Tensor) -> Tensor:
    """sum_n r_n * -log p(label_n) / sum_n r_n, a scalar in nat per token; 0 where nothing is routed.

    `routed_N` is the share of token n's routing weight that its group's experts hold. It carries no gradient: a router
    must not escape the loss by sending tokens elsewhere.
    """
    return masked_mean(-token_logprobs(logits_NK, labels_N), routed_N.detach())


def router_z_loss(router_logits_TE: Tensor, mask_T: Tensor | None = None) -> Tensor:
    """mean_t logsumexp(x_t)^2 of one layer, a scalar that keeps router logits small.

    Zoph et al. 2022, "ST-MoE", eq. 5. Tokens outside `mask_T` do not count.
    """
    squared_T = torch.logsumexp(router_logits_TE.float(), dim=-1).square()
    return squared_T.mean() if mask_T is None else masked_mean(squared_T, mask_T)


def bradley_terry_loss(
    chosen_P: Tensor, rejected_P: Tensor, preference_P: Tensor | None = None, margin_P: Tensor | None = None
) -> Tensor:
    """mean of -q log sigmoid(d - m) - (1 - q) log sigmoid(-d), d = r_chosen - r_rejected, a scalar.

    Bradley & Terry 1952; as the loss of a reward model: Ouyang et al. 2022, "InstructGPT", eq. 1, and with a margin
    m by which the better answer is to win: Touvron et al. 2023, "Llama 2", eq. 2.

    Args:
        preference_P: q, the probability that the first is better: 1 by default; a half, a tie, draws the scores
            together.
        margin_P: m, 0 by default.
    """
    difference_P = chosen_P.float() - rejected_P.float()
    preference_P = torch.ones_like(difference_P) if preference_P is None else preference_P
    wins_P = difference_P if margin_P is None else difference_P - margin_P
    return -(
        preference_P * functional.logsigmoid(wins_P) + (1 - preference_P) * functional.logsigmoid(-difference_P)
    ).mean()


def preference_loss(margin_P: Tensor, kind: PreferenceLoss, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """A loss of h = (log pi/ref)(chosen) - (log pi/ref)(rejected) for each pair, [P].

    sigmoid  -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h): Rafailov et al. 2023, "Direct Preference
             Optimization", eq. 7; with e > 0 for labels of which a share e is wrong, Mitchell 2023, "A note on DPO
             with noisy preferences", eq. 3
    ipo      (h - 1 / (2 beta))^2: Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human
             Preferences", eq. 17; it has a finite optimum, so it does not drive sure pairs apart for ever
    """
    if kind == "ipo":
        return (margin_P - 1 / (2 * beta)).square()
    right_P, wrong_P = functional.logsigmoid(beta * margin_P), functional.logsigmoid(-beta * margin_P)
    return -(1 - label_smoothing) * right_P - label_smoothing * wrong_P


def dpo_loss(
    chosen_logps_P: Tensor,
    rejected_logps_P: Tensor,
    reference_chosen_logps_P: Tensor,
    reference_rejected_logps_P: Tensor,
    *,
    beta: float,
    chosen_lengths_P: Tensor,
    likelihood_weight: float = 0.0,
    kind: PreferenceLoss = "sigmoid",
    label_smoothing: float = 0.0,
) -> Tensor:
    """mean of preference_loss((log pi/ref)(chosen) - (log pi/ref)(rejected)) - w * log pi(chosen)/|chosen|, a scalar.

    The log-probabilities are sums over the tokens of an answer; `chosen_lengths_P` counts those tokens. The second
    term keeps the chosen answer from losing probability while the margin grows: Pang et al. 2024, "Iterative Reasoning
    Preference Optimization", eq. 1.
    """
    chosen_ratio_P = chosen_logps_P - reference_chosen_logps_P
    rejected_ratio_P = rejected_logps_P - reference_rejected_logps_P
    margin_P = chosen_ratio_P - rejected_ratio_P
    preference_P = preference_loss(margin_P, kind, beta=beta, label_smoothing=label_smoothing)
    likelihood_P = chosen_logps_P / chosen_lengths_P.clamp(min=1)
    return (preference_P - likelihood_weight * likelihood_P).mean()


def k3_kl(logps: Tensor, reference_logps: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = log ref - log pi, elementwise, nat; at least 0.

    Its mean over samples of pi is KL(pi || ref) without bias, with less variance than -d: Schulman 2020,
    "Approximating KL Divergence", estimator k3.
    """
    difference = reference_logps - logps
    return torch.expm1(difference) - difference


def categorical_kl(logits_BLV: Tensor, reference_logits_BLV: Tensor) -> Tensor:
    """KL(p || q) = sum_v p(v) (log p(v) - log q(v)) of the next token at each position, [B, L] float32, nat."""
    log_p_BLV = logits_BLV.float().log_softmax(dim=-1)
    log_q_BLV = reference_logits_BLV.float().log_softmax(dim=-1)
    return (log_p_BLV.exp() * (log_p_BLV - log_q_BLV)).sum(dim=-1)


def grpo_advantages(rewards_GK: Tensor, epsilon: float = 1e-6) -> Tensor:
    """(r - mean) / (std + epsilon) within each group, [G, K]; 0 where all answers of a group score alike.

    Shao et al. 2024, "DeepSeekMath", section 4.1.2; the standard deviation is that of the K answers themselves.
    """
    centred_GK = rewards_GK - rewards_GK.mean(dim=-1, keepdim=True)
    return centred_GK / (rewards_GK.std(dim=-1, correction=0, keepdim=True) + epsilon)


def clipped_surrogate(
    logps_BL: Tensor,
    old_logps_BL: Tensor,
    advantages_B: Tensor,
    mask_BL: Tensor,
    *,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """-mean over tokens of min(r A, clip(r, 1 - low, 1 + high) A), r = exp(log pi - log pi_old), a scalar.

    Schulman et al. 2017, "PPO", eq. 7. The asymmetric clip and the mean over all tokens of the batch, which gives
    long and short answers the same weight a token, are those of Yu et al. 2025, "DAPO", eq. 8. `advantages_B`
    has one value a row, or [B, L] where rows are packed.
    """
    ratio_BL = torch.exp(logps_BL - old_logps_BL)
    advantages_BL = advantages_B if advantages_B.dim() == 2 else advantages_B.unsqueeze(-1)
    clipped_BL = ratio_BL.clamp(1 - clip_low, 1 + clip_high)
    return -masked_mean(torch.minimum(ratio_BL * advantages_BL, clipped_BL * advantages_BL), mask_BL)

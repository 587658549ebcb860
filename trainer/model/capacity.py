"""Dynamic expert capacity: how many tokens each expert may take in a step, and where a token goes that finds it full.

Used in fine-tuning only. Room is given by position, never by score: at each position the rows take turns, and what a
token gets depends on no later position, so the network stays causal.

Shapes: N layers, E experts, B rows, L tokens a row, T = B·L tokens, k experts a token, S tokens in the order of giving.
"""

from typing import NamedTuple

import torch
from torch import Tensor

ALPHA, BETA = 0.7, 0.3  # weight of the load so far, and of chance
FACTOR = 1.25  # slots over choices


def capacities(history_NE: Tensor, uniform_NE: Tensor) -> Tensor:
    """C_i = α·p_i + β·u_i·2/E, [N, E]: p_i is the running mean of P(E_i|x) over earlier steps, u_i ~ U(0, 1).

    The factor 2/E makes the mean of the second term a share of E experts, as the first one is.
    """
    return ALPHA * history_NE + BETA * uniform_NE * 2 / history_NE.shape[-1]


def slots_of(capacity_NE: Tensor, choices: int, factor: float = FACTOR) -> Tensor:
    """factor·choices·C_i/ΣC of each layer's experts in whole slots, int64 [N, E]; `choices` is k·T.

    Rounded by largest remainder: each is its exact share rounded down or up, and a layer's sum is exactly
    floor(factor·choices).
    """
    total = int(factor * choices)
    exact_NE = total * capacity_NE.double() / capacity_NE.double().sum(dim=-1, keepdim=True)
    slots_NE = exact_NE.floor().long()
    missing_N1 = total - slots_NE.sum(dim=-1, keepdim=True)
    rank_NE = (slots_NE - exact_NE).argsort(dim=-1, stable=True).argsort(dim=-1)
    return slots_NE + (rank_NE < missing_N1)


class Assignment(NamedTuple):
    """Who goes where once room is given.

    `choices_Tk` are expert numbers in the order of the router's choices; `full_Tk` tells which choices found their
    expert full, and `stuck_Tk` which of those found no other with room and stayed with the token's first choice.
    """

    choices_Tk: Tensor
    full_Tk: Tensor
    stuck_Tk: Tensor


class Room(NamedTuple):
    """The slots of one layer in one step, and who they are for: T tokens in B rows, of which `real_T` are no padding.

    Padding takes no room and stays where the router sends it.
    """

    slots_E: Tensor
    rows: int
    real_T: Tensor | None = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # data decides how often its loop runs
    @torch.no_grad()
    def assign(self, logits_TE: Tensor, choices_Tk: Tensor) -> Assignment:
        """Give room position by position, all rows at each; `choices_Tk` are the router's, best first.

        A choice that finds its expert full goes to the best expert with room that is none of the token's other choices,
        else to the token's first choice, over its slots.
        """
        order_S = torch.arange(len(choices_Tk), device=choices_Tk.device).view(self.rows, -1).T.flatten()
        if self.real_T is not None:
            order_S = order_S[self.real_T[order_S]]
        assigned_Sk, full_Sk, stuck_Sk = _give_room(logits_TE[order_S], choices_Tk[order_S], self.slots_E)
        none_Tk = torch.zeros_like(choices_Tk, dtype=torch.bool)
        return Assignment(
            choices_Tk.index_copy(0, order_S, assigned_Sk),
            none_Tk.index_copy(0, order_S, full_Sk),
            none_Tk.index_copy(0, order_S, stuck_Sk),
        )


def _give_room(logits_SE: Tensor, choices_Sk: Tensor, slots_E: Tensor) -> Assignment:
    """The assignment of tokens that come in order.

    Which experts are full changes at most E times, and between two changes every token is dealt with alike: so each
    turn of the loop assigns all tokens up to the one that takes the last slot of some expert.
    """
    nothing_Sk = torch.zeros_like(choices_Sk, dtype=torch.bool)
    assignment = Assignment(choices_Sk.clone(), nothing_Sk, nothing_Sk.clone())
    room_E, done = slots_E.clone(), 0
    while done < len(choices_Sk):
        part = _assign_while(room_E <= 0, logits_SE[done:], choices_Sk[done:])
        until = _first_filled(part.choices_Tk.flatten(), room_E) // choices_Sk.shape[1] + 1
        for whole, some in zip(assignment, part, strict=True):
            whole[done : done + until] = some[:until]
        room_E -= torch.bincount(part.choices_Tk[:until].flatten(), minlength=len(room_E))
        done += until
    return assignment


def _assign_while(full_E: Tensor, logits_SE: Tensor, choices_Sk: Tensor) -> Assignment:
    """Where tokens go as long as just these experts are full."""
    full_Sk = full_E[choices_Sk]
    assigned_Sk, stuck_Sk = choices_Sk.clone(), torch.zeros_like(full_Sk)
    hit_H = full_Sk.any(dim=1).nonzero().squeeze(1)
    if not len(hit_H):
        return Assignment(assigned_Sk, full_Sk, stuck_Sk)
    choices_Hk, full_Hk = choices_Sk[hit_H], full_Sk[hit_H]
    logits_HE = logits_SE[hit_H].float().masked_fill(full_E, -torch.inf).scatter(1, choices_Hk, -torch.inf)
    for rank in range(choices_Sk.shape[1]):
        score_H, other_H = logits_HE.max(dim=1)
        found_H = full_Hk[:, rank] & (score_H > -torch.inf)
        stuck_H = full_Hk[:, rank] & ~found_H
        moved_H = torch.where(found_H, other_H, torch.where(stuck_H, choices_Hk[:, 0], choices_Hk[:, rank]))
        assigned_Sk[hit_H, rank], stuck_Sk[hit_H, rank] = moved_H, stuck_H
        logits_HE = logits_HE.scatter(1, moved_H.unsqueeze(1), -torch.inf)
    return Assignment(assigned_Sk, full_Sk, stuck_Sk)


def _first_filled(assigned_R: Tensor, room_E: Tensor) -> int:
    """The first of the choices in order that takes an expert's last slot; the last choice when none does."""
    counts_E = torch.bincount(assigned_R, minlength=len(room_E))
    filled_E = (room_E > 0) & (counts_E >= room_E)
    if not bool(filled_E.any()):
        return len(assigned_R) - 1
    by_expert_R = assigned_R.argsort(stable=True)
    last_slot_E = counts_E.cumsum(0) - counts_E + room_E - 1
    return int(by_expert_R[last_slot_E[filled_E]].min())

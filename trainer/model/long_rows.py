"""Attention over rows longer than the window, in linear time and memory.

Shapes: B rows, L tokens a row, H query heads, G key/value heads, K width of a head, P places of a laid out row, N
blocks of it, C tokens of a block, X = B·N, T keys that a block sees, M slots.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from trainer.model.attention import Far, Sight, as_bias, attend, visible
from trainer.model.config import ModelConfig
from trainer.model.long_context import Layout, lay_out, slot_bias, slot_counts, slots_of

TILE = 128  # of FlexAttention's sparsity


def look(config: ModelConfig, tokens_BL: Tensor, segments_BL: Tensor | None, dtype: torch.dtype) -> Tensor | Sight:
    """What the tokens of a row may see, made once and shared by all layers: a bias for rows no longer than the window,
    for longer ones something that never has the size L·L."""
    length, device = tokens_BL.shape[1], tokens_BL.device
    if config.sliding_window is None or length <= config.sliding_window:
        return as_bias(visible(config, length, segments_BL, device), dtype)
    layout = lay_out(config, torch.zeros_like(tokens_BL) if segments_BL is None else segments_BL)
    # FlexAttention has no backward pass on a CPU, and no kernel on other devices.
    return FlexRows.over(layout) if device.type == "cuda" else BlockRows(layout, block_bias(layout, dtype))


# -- plain products --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockRows:
    """Each block attends to itself, the window before it and its slots, under one bias."""

    layout: Layout
    bias_X1CT: Tensor

    def attend(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        layout = self.layout
        keys, values = (reach(layout, layout.spread(x_BGLK)) for x_BGLK in (k_BGLK, v_BGLK))
        if layout.slots is not None:
            assert far is not None
            slot_k_BNGMK, slot_v_BNGMK = slots_of(layout, layout.slots, far, v_BGLK)
            keys, values = [*keys, slot_k_BNGMK], [*values, slot_v_BNGMK]
        k_XGTK, v_XGTK = (torch.cat(parts, dim=3).flatten(0, 1) for parts in (keys, values))
        out_XHCK = attend(layout.spread(q_BHLK).flatten(0, 1), k_XGTK, v_XGTK, self.bias_X1CT)
        return layout.gather(out_XHCK.view(len(q_BHLK), -1, *out_XHCK.shape[1:]))


def reach(layout: Layout, x_BN: Tensor) -> list[Tensor]:
    """What lies in the blocks before each block, oldest first, that its window reaches, and in itself; each [B, N, …].
    Before a row lie zeros."""
    N, before = x_BN.shape[1], (layout.config.sliding_window or 0) // layout.block
    x_BN = torch.cat((torch.zeros_like(x_BN[:, :1]).expand(-1, before, *x_BN.shape[2:]), x_BN), dim=1)
    return [x_BN[:, i : i + N] for i in range(before + 1)]


def block_bias(layout: Layout, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of each block, [X, 1, C, T], the slots last."""
    W, C, document_BNC = layout.config.sliding_window, layout.block, layout.document_BNC
    assert W is not None
    query_C1 = torch.arange(W, W + C, device=document_BNC.device).unsqueeze(1)
    distance_CT = query_C1 - torch.arange(W + C, device=document_BNC.device)
    reached_BNT = torch.cat(reach(layout, document_BNC), dim=2)
    # Documents count from 1, so what is before a row, 0, belongs to none. An empty place sees itself, and nobody it.
    seen_BNCT = document_BNC.unsqueeze(3) == reached_BNT.unsqueeze(2)
    seen_BNCT &= (distance_CT >= 0) & (distance_CT < W)
    # In place and in one piece: at 64K tokens each copy of this is hundreds of megabytes.
    M = 0 if layout.slots is None else layout.config.aggregate_slots
    bias_BNCT = torch.zeros(*document_BNC.shape, W + C + M, dtype=dtype, device=document_BNC.device)
    bias_BNCT[..., : W + C].masked_fill_(seen_BNCT.logical_not_(), -torch.inf)
    if layout.slots is not None:
        bias_BNCT[..., W + C :] = slot_bias(layout.config, slot_counts(layout.slots.n_BN, M)).unsqueeze(2)
    return bias_BNCT.flatten(0, 1).unsqueeze(1)


# -- FlexAttention ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FlexRows:
    """The same in one call over the row's keys, padded to whole tiles, and behind them the slots of all blocks."""

    layout: Layout
    mask: BlockMask
    bias_BT: Tensor

    @staticmethod
    def over(layout: Layout) -> "FlexRows":
        document_BP = _whole_tiles(layout.document_BP, dim=1, value=-1)
        B, P = document_BP.shape
        bias_BT, M = document_BP.new_zeros(B, P, dtype=torch.float32), 0
        if layout.slots is not None:
            M = layout.config.aggregate_slots
            slots_BNM = slot_bias(layout.config, slot_counts(layout.slots.n_BN, M))
            bias_BT = torch.cat((bias_BT, _whole_tiles(slots_BNM.flatten(1), dim=1, value=-torch.inf)), dim=1)
        seen = _seen(document_BP, bias_BT, layout.config.sliding_window or 0, layout.block, M)
        counts, tiles = _tiles(layout, M, document_BP.device)
        lengths = (P, bias_BT.shape[1])
        mask = BlockMask.from_kv_blocks(counts, tiles, BLOCK_SIZE=TILE, mask_mod=seen, seq_lengths=lengths)
        return FlexRows(layout, mask, bias_BT)

    def attend(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        layout, bias_BT = self.layout, self.bias_BT

        def places(x_BNHCK: Tensor) -> Tensor:
            return _whole_tiles(x_BNHCK.transpose(1, 2).flatten(2, 3), dim=2)

        def score(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return score + bias_BT[b, k]

        q_BHPK, k_BGTK, v_BGTK = (places(layout.spread(x)) for x in (q_BHLK, k_BGLK, v_BGLK))
        if layout.slots is not None:
            assert far is not None
            slot_k_BNGMK, slot_v_BNGMK = slots_of(layout, layout.slots, far, v_BGLK)
            k_BGTK = torch.cat((k_BGTK, places(slot_k_BNGMK)), dim=2)
            v_BGTK = torch.cat((v_BGTK, places(slot_v_BNGMK)), dim=2)
        flex: Any = _compiled() if q_BHLK.is_cuda else flex_attention
        out_BHPK = flex(q_BHPK, k_BGTK, v_BGTK, score_mod=score, block_mask=self.mask, enable_gqa=True)
        B, H, _, K = q_BHLK.shape
        out_BHPK = out_BHPK[:, :, : layout.document_BP.shape[1]]
        return layout.gather(out_BHPK.reshape(B, H, -1, layout.block, K).transpose(1, 2))


@cache
def _compiled() -> Callable[..., Any]:
    """Without the compiler FlexAttention holds all scores."""
    return torch.compile(flex_attention)


def _whole_tiles(x: Tensor, dim: int, value: float = 0) -> Tensor:
    return F.pad(x, (0, 0) * (x.dim() - 1 - dim) + (0, -x.shape[dim] % TILE), value=value)


def _seen(document_BP: Tensor, bias_BT: Tensor, window: int, block: int, slots: int) -> Callable[..., Tensor]:
    """Which key a query sees, as FlexAttention asks: keys from P on are the slots, block by block."""
    P = document_BP.shape[1]

    def seen(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same = document_BP[b, q] == document_BP[b, k.clamp(max=P - 1)]
        in_window = (k < P) & same & (k <= q) & (q - k < window)
        if not slots:
            return in_window
        return in_window | ((k >= P) & ((k - P) // slots == q // block) & (bias_BT[b, k] > -torch.inf))

    return seen


def _tiles(layout: Layout, slots: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How many tiles of keys each tile of queries must look into, [1, 1, tiles], and which, [1, 1, tiles, all]: those
    of the window, then those with the slots of its blocks."""
    N, C, W = layout.document_BNC.shape[1], layout.block, layout.config.sliding_window
    assert W is not None
    rows, columns = -(-N * C // TILE), -(-N * C // TILE) + -(-N * slots // TILE)
    tile_R = torch.arange(rows, device=device)
    first_R = (tile_R * TILE - W + 1).clamp(min=0) // TILE
    window_R = tile_R - first_R + 1
    slot_start_R = rows * TILE + tile_R * TILE // C * slots
    slot_end_R = rows * TILE + (((tile_R + 1) * TILE - 1) // C + 1).clamp(max=N) * slots
    first_slot_R = slot_start_R // TILE
    slot_tiles_R = (-(-slot_end_R // TILE) - first_slot_R).clamp(min=0) if slots else torch.zeros_like(tile_R)
    step = torch.arange(columns, device=device)
    in_window_RT, in_slots_RT = first_R.unsqueeze(1) + step, (first_slot_R - window_R).unsqueeze(1) + step
    tiles_RT = torch.where(step < window_R.unsqueeze(1), in_window_RT, in_slots_RT).clamp(max=columns - 1)
    return (window_R + slot_tiles_R).int()[None, None], tiles_RT.int()[None, None]

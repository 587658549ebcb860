"""Causal attention with rotary positions and grouped key/value heads, as in Mixtral.

Shapes: B rows, L tokens a row, H query heads, G key/value heads, K width of a head, D hidden size.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.config import ModelConfig

# Up to this row length explicit batched products beat the fused kernel on a CPU, and their scores still fit memory.
EXPLICIT_UP_TO = 512
# Queries that are computed together: keys after the last of them are skipped, which halves the work of long rows.
QUERY_BLOCK = 128


class Far(NamedTuple):
    """What summaries of tokens that leave the window are made from besides values: see long_context.py."""

    keys_BGLK: Tensor  # not rotated
    salience_BGL: Tensor


class Sight(Protocol):
    """What the tokens of a row may see, where that is not one bias for the whole row."""

    def attend(self, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        """Attention output [B, H, L, K] of rotated queries and keys."""


class KVCache(Protocol):
    """Where a decoder keeps keys and values between calls; serving and generation bring their own."""

    def attend(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        """Store the new keys and values (rotated already) and return the attention output [B, H, L, K]."""


def positions_of(segments_BL: Tensor) -> Tensor:
    """Position of each token in its own document: 0, 1, 2, … restarting wherever the segment number changes."""
    index_L = torch.arange(segments_BL.shape[1], device=segments_BL.device)
    starts_BL = torch.ones_like(segments_BL, dtype=torch.bool)
    starts_BL[:, 1:] = segments_BL[:, 1:] != segments_BL[:, :-1]
    return index_L - torch.where(starts_BL, index_L, 0).cummax(dim=1).values


def visible(config: ModelConfig, length: int, segments_BL: Tensor | None, device: torch.device) -> Tensor:
    """Which key each query may see, bool [B or 1, 1, L, L]: the past, inside the window, in its own document."""
    query_L1 = torch.arange(length, device=device).unsqueeze(1)
    key_1L = query_L1.T
    seen_LL = key_1L <= query_L1
    if config.sliding_window is not None:
        seen_LL &= query_L1 - key_1L < config.sliding_window
    if segments_BL is None:
        return seen_LL[None, None]
    return (seen_LL & (segments_BL.unsqueeze(2) == segments_BL.unsqueeze(1))).unsqueeze(1)


def as_bias(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a key may be seen, -inf where not: what is added to the scores. Made once and shared by all layers."""
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)


def rotary_tables(config: ModelConfig, positions_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, 1, L, K] in float32 of the rotary embedding (Su et al. 2021, halves as in Llama)."""
    exponents = torch.arange(0, config.head_dim, 2, device=positions_BL.device, dtype=torch.float32) / config.head_dim
    angles_BLk = positions_BL.float().unsqueeze(-1) * (1.0 / config.rope_theta**exponents)
    angles_B1LK = torch.cat((angles_BLk, angles_BLk), dim=-1).unsqueeze(1)
    return angles_B1LK.cos(), angles_B1LK.sin()


def rotate(x_BHLK: Tensor, cos_B1LK: Tensor, sin_B1LK: Tensor) -> Tensor:
    """Apply the rotary embedding; tables must have the dtype of x."""
    first, second = x_BHLK.chunk(2, dim=-1)
    return x_BHLK * cos_B1LK + torch.cat((-second, first), dim=-1) * sin_B1LK


def attend(q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, bias_B1LS: Tensor) -> Tensor:
    """softmax(q k' / sqrt(K) + bias) v, [B, H, L, K]; H / G queries share a key/value head."""
    if bias_B1LS.shape[-1] > EXPLICIT_UP_TO:
        return F.scaled_dot_product_attention(q_BHLK, k_BGSK, v_BGSK, attn_mask=bias_B1LS, enable_gqa=True)
    return attend_explicit(q_BHLK, k_BGSK, v_BGSK, bias_B1LS)


def attend_causal(q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, bias_B1LL: Tensor) -> Tensor:
    """The same for the tokens of rows, under a bias that hides every later token: those are skipped."""
    L = bias_B1LL.shape[-1]
    if L > EXPLICIT_UP_TO:
        return attend(q_BHLK, k_BGLK, v_BGLK, bias_B1LL)
    blocks = [
        attend_explicit(
            q_BHLK[:, :, start:stop], k_BGLK[:, :, :stop], v_BGLK[:, :, :stop], bias_B1LL[:, :, start:stop, :stop]
        )
        for start, stop in query_blocks(L)
    ]
    return torch.cat(blocks, dim=2) if len(blocks) > 1 else blocks[0]


def query_blocks(length: int) -> list[tuple[int, int]]:
    """Start and end of each block of queries."""
    return [(start, min(start + QUERY_BLOCK, length)) for start in range(0, length, QUERY_BLOCK)]


def attend_explicit(q_BHLK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, bias_B1LS: Tensor) -> Tensor:
    """The same by two batched products over all keys; scores are held in full."""
    B, H, L, K = q_BHLK.shape
    G, S = k_BGSK.shape[1:3]
    q_NRK = (q_BHLK * K**-0.5).reshape(B * G, H // G * L, K)
    scores_NRS = torch.bmm(q_NRK, k_BGSK.reshape(B * G, S, K).transpose(1, 2))
    scores_BHLS = scores_NRS.view(B, H, L, S) + bias_B1LS
    weights_NRS = scores_BHLS.softmax(dim=-1).view(B * G, H // G * L, S)
    return torch.bmm(weights_NRS, v_BGSK.reshape(B * G, S, K)).view(B, H, L, K)


class Attention(nn.Module):
    """Projections around `attend`; without a cache it sees the row itself."""

    def __init__(self, config: ModelConfig, layer: int, aggregate: nn.Module | None = None) -> None:
        super().__init__()
        self.config, self.layer, self.aggregate = config, layer, aggregate
        D, K = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(D, config.num_attention_heads * K, bias=False)
        self.k_proj = nn.Linear(D, config.num_key_value_heads * K, bias=False)
        self.v_proj = nn.Linear(D, config.num_key_value_heads * K, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * K, D, bias=False)

    def forward(
        self, x_BLD: Tensor, rotary: tuple[Tensor, Tensor], sight: Tensor | Sight | None, cache: KVCache | None
    ) -> Tensor:
        B, L, _ = x_BLD.shape

        def heads(projection: nn.Linear) -> Tensor:
            x_BLN: Tensor = projection(x_BLD)
            return x_BLN.view(B, L, -1, self.config.head_dim).transpose(1, 2)

        unrotated_BGLK = heads(self.k_proj)
        q_BHLK = rotate(heads(self.q_proj), *rotary)
        k_BGLK = rotate(unrotated_BGLK, *rotary)
        v_BGLK = heads(self.v_proj)
        if isinstance(sight, Tensor):
            out_BHLK = attend_causal(q_BHLK, k_BGLK, v_BGLK, sight)
        else:
            far = None if self.aggregate is None else self.aggregate(x_BLD, unrotated_BGLK)
            if cache is not None:
                out_BHLK = cache.attend(self.layer, q_BHLK, k_BGLK, v_BGLK, far)
            else:
                assert sight is not None
                out_BHLK = sight.attend(q_BHLK, k_BGLK, v_BGLK, far)
        out_BLD: Tensor = self.o_proj(out_BHLK.transpose(1, 2).reshape(B, L, -1))
        return out_BLD

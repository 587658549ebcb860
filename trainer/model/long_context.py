"""The global aggregate: what is kept of the tokens that have left the window. long_rows.py attends to it.

A document is cut into chunks of S = W/4 tokens, counted from its first token. A chunk is encoded into one summary, a
key and a value per head: means of its tokens' keys, taken before the rotation, and values, weighted by a softmax over
their salience. A query of chunk a sees the last W tokens as in Mixtral and, of its own document, the summaries of
chunks 0 … a-4: chunk j comes in exactly when its first token has left the window (the query stands at (j+4)·S), so
nothing falls between; its other tokens are seen both ways until they leave too. A query before position W sees no
summary, so rows no longer than W are computed as Mixtral computes them.

The n summaries that a query sees lie in M slots. Slot m holds the g neighbours m·g … m·g+g-1, where g is the least
power of two with n ≤ M·g: each summary has a slot of its own while they fit, then neighbours share one, so that the
resolution halves whenever the document doubles. As a recurrence (`absorb`, used in decoding): when all M slots are
full, each pair becomes one; then the new summary is added. In training (`hold`) the same slots are differences of
prefix sums: no loop over chunks. Only chunks of the query's document enter, which is the reset at borders.

A slot enters the softmax as one key, the mean of its summaries' keys, with bias log(number of its tokens): the weight
that its tokens would have together if their keys were alike. Queries of chunk a see all slots as if at position
(a-3)·S, the oldest that each of them has in its window: distances are clamped to those that Mixtral knows, below W.

Shapes: B rows, L tokens a row, H query heads, G key/value heads, K width of a head, D hidden size, P places of a laid
out row, N blocks of it, C tokens of a block, M slots, Q queries.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.model.attention import Far, positions_of, rotary_tables, rotate
from trainer.model.config import WINDOW_CHUNKS, ModelConfig


class GlobalAggregate(nn.Module):
    """The weights of one layer that Mixtral has no name for: how much a token counts in the summary of its chunk."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.salience = nn.Linear(config.hidden_size, config.num_key_value_heads, bias=False)

    def forward(self, x_BLD: Tensor, k_BGLK: Tensor) -> Far:
        salience_BLG: Tensor = self.salience(x_BLD)
        return Far(k_BGLK, salience_BLG.transpose(1, 2))


# -- summaries and slots ---------------------------------------------------------------------------------------------


def summarise(x_GSK: Tensor, salience_GS: Tensor) -> Tensor:
    """sum_s softmax(salience)_s x_s, [..., G, S, K] -> [..., G, K]: one summary of S tokens."""
    weights_GS = salience_GS.float().softmax(dim=-1).to(x_GSK.dtype)
    return (weights_GS.unsqueeze(-2) @ x_GSK).squeeze(-2)


def summaries_seen(config: ModelConfig, position: Tensor) -> Tensor:
    """n, how many chunks of its document have begun to leave the window of a query at `position`."""
    return (position // config.chunk - (WINDOW_CHUNKS - 1)).clamp(min=0)


def slot_span(n: Tensor, slots: int) -> Tensor:
    """g, the least power of two with n ≤ slots·g."""
    full = torch.div(n - 1, slots, rounding_mode="floor").clamp(min=0)
    return 2 ** torch.frexp(full.double()).exponent.long()  # an integer's exponent is its length in bits: exact


def slot_counts(n: Tensor, slots: int) -> Tensor:
    """How many summaries each slot holds, [..., M]."""
    span = slot_span(n, slots).unsqueeze(-1)
    return (n.unsqueeze(-1) - torch.arange(slots, device=n.device) * span).clamp(min=0).minimum(span)


def absorb(sums_BGMK: Tensor, summary_BGK: Tensor, held_B: Tensor, due_B: Tensor) -> Tensor:
    """Add one summary to each row where it is due; `held_B` were added before. A slot is the sum of its summaries."""
    M = sums_BGMK.shape[2]
    before_B, after_B = slot_span(held_B, M), slot_span(held_B + 1, M)
    pairs_BGMK = sums_BGMK[:, :, 0::2] + sums_BGMK[:, :, 1::2]
    merged_BGMK = torch.cat((pairs_BGMK, torch.zeros_like(pairs_BGMK)), dim=2)
    merge_B = due_B & (after_B > before_B)
    sums_BGMK = torch.where(merge_B[:, None, None, None], merged_BGMK, sums_BGMK)
    into_BM = torch.arange(M, device=held_B.device) == (held_B // after_B).unsqueeze(1)
    return sums_BGMK + (into_BM & due_B.unsqueeze(1))[:, None, :, None] * summary_BGK.unsqueeze(2)


def hold(summaries_BNGK: Tensor, first_BQ: Tensor, n_BQ: Tensor, slots: int) -> Tensor:
    """Mean of the summaries in each slot, [B, Q, G, M, K], when first … first+n-1 of the row are held: what `absorb`
    arrives at after n times. What an empty slot holds is never read.

    A shared slot is a difference of two prefix sums; they are float64, so that nothing is lost in it.
    """
    if int(n_BQ.max()) <= slots:
        at_BQM = first_BQ.unsqueeze(-1) + torch.arange(slots, device=n_BQ.device)
        return _take(summaries_BNGK, at_BQM.clamp(max=summaries_BNGK.shape[1] - 1)).transpose(2, 3)
    prefix_BNGK = F.pad(summaries_BNGK.double().cumsum(dim=1), (0, 0, 0, 0, 1, 0))
    edges_BQM = torch.arange(slots + 1, device=n_BQ.device) * slot_span(n_BQ, slots).unsqueeze(-1)
    at_BQMGK = _take(prefix_BNGK, first_BQ.unsqueeze(-1) + edges_BQM.minimum(n_BQ.unsqueeze(-1)))
    sums_BQGMK = (at_BQMGK[:, :, 1:] - at_BQMGK[:, :, :-1]).transpose(2, 3)
    return slot_means(sums_BQGMK, slot_counts(n_BQ, slots)).to(summaries_BNGK.dtype)


def slot_means(sums_GMK: Tensor, counts_M: Tensor) -> Tensor:
    return sums_GMK / counts_M.clamp(min=1)[..., None, :, None]


def rotate_slots(config: ModelConfig, means_GMK: Tensor, chunk: Tensor) -> Tensor:
    """Keys of slots [..., G, M, K] as queries of a chunk of their document see them."""
    position_X1 = ((chunk - (WINDOW_CHUNKS - 1)).clamp(min=0) * config.chunk).reshape(-1, 1)
    cos, sin = (t.to(means_GMK.dtype).view(*chunk.shape, 1, 1, -1) for t in rotary_tables(config, position_X1))
    return rotate(means_GMK, cos, sin)


def slot_bias(config: ModelConfig, counts_M: Tensor) -> Tensor:
    """log(tokens in the slot), -inf for an empty one; float32."""
    return (counts_M * config.chunk).float().log()


# -- where the tokens of a long row lie ------------------------------------------------------------------------------


class Slots(NamedTuple):
    """Of each block: its chunk's number in the document, the block where the document's first chunk lies, and how
    many summaries its queries see."""

    chunk_BN: Tensor
    first_BN: Tensor
    n_BN: Tensor


class Moves(NamedTuple):
    """Which token lies at a place (0 where none does), and at which place a token lies."""

    token_BP: Tensor
    place_BL: Tensor


@dataclass(frozen=True)
class Layout:
    """Rows cut into N blocks of C tokens; `document_BP` numbers the document at each place, -1 where nothing lies.

    With `slots`, blocks are chunks: each document longer than the window begins at a block. Tokens that had to move
    for that are in `moves`.
    """

    config: ModelConfig
    block: int
    length: int
    document_BP: Tensor
    moves: Moves | None = None
    slots: Slots | None = None

    @property
    def document_BNC(self) -> Tensor:
        return self.document_BP.view(len(self.document_BP), -1, self.block)

    def place_of(self, token: int) -> Tensor:
        """The place in each row of a token's column, [B, 1]."""
        if self.moves is None:
            return torch.full((len(self.document_BP), 1), token, device=self.document_BP.device)
        return self.moves.place_BL[:, token : token + 1]

    def spread(self, x_BHLK: Tensor) -> Tensor:
        """Tokens -> blocks [B, N, H, C, K]; what is put where no token lies is never read."""
        x_BLHK = x_BHLK.transpose(1, 2)
        if self.moves is None:
            x_BPHK = F.pad(x_BLHK, (0, 0, 0, 0, 0, self.document_BP.shape[1] - self.length))
        else:
            x_BPHK = _take(x_BLHK, self.moves.token_BP)
        return x_BPHK.reshape(len(x_BPHK), -1, self.block, *x_BPHK.shape[2:]).transpose(2, 3)

    def gather(self, x_BNHCK: Tensor) -> Tensor:
        """Blocks -> tokens [B, H, L, K]."""
        x_BPHK = x_BNHCK.transpose(2, 3).flatten(1, 2)
        x_BLHK = x_BPHK[:, : self.length] if self.moves is None else _take(x_BPHK, self.moves.place_BL)
        return x_BLHK.transpose(1, 2)

    def summaries(self, x_BGLK: Tensor, salience_BGL: Tensor) -> Tensor:
        """The summary of each block [B, N, G, K]; that of a block which is not full is never read."""
        return summarise(self.spread(x_BGLK), self.spread(salience_BGL.unsqueeze(-1)).squeeze(-1))


def _take(x_BLHK: Tensor, index_BP: Tensor) -> Tensor:
    """x[b, index[b, p]], [B, P, H, K]; P may be several dimensions."""
    rows, H, K = x_BLHK.shape[1], *x_BLHK.shape[2:]
    start_B = torch.arange(len(x_BLHK), device=index_BP.device) * rows
    flat = (start_B.view(-1, *[1] * (index_BP.dim() - 1)) + index_BP).flatten()
    return x_BLHK.reshape(-1, H * K).index_select(0, flat).view(*index_BP.shape, H, K)


def lay_out(config: ModelConfig, segments_BL: Tensor) -> Layout:
    """Cut rows into blocks. They are a quarter of the window where it can be divided: less of what a block reaches is
    then outside of a query's window."""
    W, L = config.sliding_window, segments_BL.shape[1]
    assert W is not None
    C = W // WINDOW_CHUNKS if W % WINDOW_CHUNKS == 0 else W
    position_BL = positions_of(segments_BL)
    document_BL = (position_BL == 0).long().cumsum(dim=1)
    if not config.aggregate_slots or int(position_BL.max()) < W:
        return Layout(config, C, L, F.pad(document_BL, (0, -L % C), value=-1))
    place_BL = _places(document_BL, W, C)
    empty_BP = place_BL.new_full((len(place_BL), (int(place_BL.max()) // C + 1) * C), -1)
    column_BL = torch.arange(L, device=place_BL.device).expand_as(place_BL)
    moves = Moves(empty_BP.scatter(1, place_BL, column_BL).clamp(min=0), place_BL)
    start_BN = empty_BP.scatter(1, place_BL, position_BL)[:, ::C].clamp(min=0)
    chunk_BN = start_BN // C
    first_BN = (torch.arange(chunk_BN.shape[1], device=place_BL.device) - chunk_BN).clamp(min=0)
    slots = Slots(chunk_BN, first_BN, summaries_seen(config, start_BN))
    document_BP = empty_BP.scatter(1, place_BL, document_BL)
    return Layout(config, C, L, document_BP, None if torch.equal(place_BL, column_BL) else moves, slots)


def _places(document_BL: Tensor, window: int, block: int) -> Tensor:
    """Place of each token when every document longer than the window begins and ends at a block's border."""
    index_BL = document_BL - 1
    lengths_BL = torch.zeros_like(index_BL).scatter_add(1, index_BL, torch.ones_like(index_BL)).gather(1, index_BL)
    border_BL = F.pad(index_BL[:, 1:] != index_BL[:, :-1], (1, 0), value=True)
    long_BL = lengths_BL > window
    # Neighbouring short documents stay together: a run is cut off only where a long one begins or has ended.
    run_BL = (border_BL & (long_BL | F.pad(long_BL[:, :-1], (1, 0)))).cumsum(dim=1)
    within_BL = positions_of(run_BL) % block
    return ((within_BL == 0).cumsum(dim=1) - 1) * block + within_BL


def slots_of(layout: Layout, slots: Slots, far: Far, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
    """Rotated keys and values [B, N, G, M, K] of the slots that each block sees."""
    keys_BNGMK, values_BNGMK = (
        hold(layout.summaries(x_BGLK, far.salience_BGL), slots.first_BN, slots.n_BN, layout.config.aggregate_slots)
        for x_BGLK in (far.keys_BGLK, v_BGLK)
    )
    return rotate_slots(layout.config, keys_BNGMK, slots.chunk_BN), values_BNGMK


def last_slots(layout: Layout, far: Far, v_BGLK: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of keys and values [B, G, M, K], float32, in the slots that the last token of each row sees."""
    assert layout.slots is not None
    M, last_B1 = layout.config.aggregate_slots, layout.place_of(layout.length - 1) // layout.block
    first_B1, n_B1 = (x_BN.gather(1, last_B1) for x_BN in (layout.slots.first_BN, layout.slots.n_BN))
    counts_B1M = slot_counts(n_B1, M)[..., None, :, None]
    sums_k, sums_v = (
        (hold(layout.summaries(x_BGLK, far.salience_BGL), first_B1, n_B1, M) * counts_B1M)[:, 0].float()
        for x_BGLK in (far.keys_BGLK, v_BGLK)
    )
    return sums_k, sums_v

"""Keys and values of all sequences in blocks, and attention over them for one flat batch.

Shapes: T tokens of the batch, N sequences that decode, H query heads, G key/value heads, R = H / G, K width of a
head, L tokens of a prefill chunk, S cached tokens padded to whole blocks. G comes first in the cache, so that what is
gathered for N sequences is one contiguous batch of G·N for the matrix products.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from torch import Tensor

from serving.scheduler import Chunk
from trainer.model.attention import Far, as_bias, attend
from trainer.model.config import ModelConfig


class BlockStore:
    """The tensors behind a `BlockPool`: keys and values [G, blocks, block_size · K] of each layer."""

    def __init__(
        self, config: ModelConfig, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.config, self.block_size = config, block_size
        shape = (config.num_key_value_heads, num_blocks, block_size * config.head_dim)
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in layers]

    def write(self, layer: int, slots_T: Tensor, k_GTK: Tensor, v_GTK: Tensor) -> None:
        for cache, new_GTK in ((self.keys[layer], k_GTK), (self.values[layer], v_GTK)):
            cache.view(cache.shape[0], -1, self.config.head_dim).index_copy_(1, slots_T, new_GTK)

    def read(self, layer: int, table_NM: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [G·N, 1, S, K] of the blocks of N sequences, M blocks each."""
        N = table_NM.shape[0]
        shape = (self.config.num_key_value_heads * N, 1, -1, self.config.head_dim)
        blocks = table_NM.flatten()
        return (
            self.keys[layer].index_select(1, blocks).view(shape),
            self.values[layer].index_select(1, blocks).view(shape),
        )


@dataclass(frozen=True)
class _Group:
    """Rows of the batch that attend together: N sequences of L new tokens each."""

    first: int
    end: int
    table_NM: Tensor
    bias_NLS: Tensor


class PagedBatch:
    """The `KVCache` of one step: chunks of one token first, which attend together, then the longer ones one by one."""

    def __init__(self, store: BlockStore, chunks: Items[Chunk], dtype: torch.dtype, device: torch.device) -> None:
        self.store, self.device, self.dtype = store, device, dtype
        self.slots_T = torch.tensor(
            [slot for chunk in chunks for slot in _slots(chunk, store.block_size)], device=device
        )
        decoding = sum(chunk.count == 1 for chunk in chunks)
        assert all(chunk.count == 1 for chunk in chunks[:decoding]), "chunks of one token come first"
        self.groups = [self._group(0, chunks[:decoding])] if decoding else []
        first = decoding
        for chunk in chunks[decoding:]:
            self.groups.append(self._group(first, [chunk]))
            first += chunk.count

    def attend(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        assert far is None, "a global aggregate is refused when it is loaded"
        assert q_BHLK.shape[0] == 1, "a paged batch is one flat row of tokens"
        self.store.write(layer, self.slots_T, k_BGLK[0], v_BGLK[0])
        parts = [self._attend_group(layer, group, q_BHLK[0, :, group.first : group.end]) for group in self.groups]
        return torch.cat(parts, dim=1).unsqueeze(0)

    def _attend_group(self, layer: int, group: _Group, q_HTK: Tensor) -> Tensor:
        """Attention [H, N·L, K] of one group over its own blocks."""
        G = self.store.config.num_key_value_heads
        H, _, K = q_HTK.shape
        N, L, S = group.bias_NLS.shape
        k_B1SK, v_B1SK = self.store.read(layer, group.table_NM)
        q_BRLK = q_HTK.reshape(G, H // G, N, L, K).transpose(1, 2).reshape(G * N, H // G, L, K)
        bias_B1LS = group.bias_NLS.expand(G, N, L, S).reshape(G * N, 1, L, S)
        out_BRLK = attend(q_BRLK, k_B1SK, v_B1SK, bias_B1LS)
        return out_BRLK.view(G, N, H // G, L, K).transpose(1, 2).reshape(H, N * L, K)

    def _group(self, first: int, chunks: Items[Chunk]) -> _Group:
        ends = [chunk.start + chunk.count for chunk in chunks]
        M = -(-max(ends) // self.store.block_size)
        # Rows with fewer blocks repeat block 0 of the pool; the bias hides what lies there.
        table = [(chunk.sequence.blocks[:M] + [0] * M)[:M] for chunk in chunks]
        starts_N = torch.tensor([chunk.start for chunk in chunks], device=self.device)
        query_NL1 = (starts_N[:, None] + torch.arange(chunks[0].count, device=self.device)).unsqueeze(2)
        key_S = torch.arange(M * self.store.block_size, device=self.device)
        seen_NLS = key_S <= query_NL1
        if self.store.config.sliding_window is not None:
            seen_NLS &= query_NL1 - key_S < self.store.config.sliding_window
        end = first + sum(chunk.count for chunk in chunks)
        return _Group(first, end, torch.tensor(table, device=self.device), as_bias(seen_NLS, self.dtype))


def _slots(chunk: Chunk, block_size: int) -> list[int]:
    """Where in the cache each token of a chunk lies."""
    positions = range(chunk.start, chunk.start + chunk.count)
    return [chunk.sequence.blocks[at // block_size] * block_size + at % block_size for at in positions]

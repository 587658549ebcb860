"""Keys and values of all sequences in blocks, and attention over them for one flat batch.

Shapes: T tokens of the batch, N sequences that decode, H query heads, G key/value heads, R = H / G, K width of a
head, L tokens of a prefill chunk, S cached tokens padded to whole blocks. Keys and values of a layer lie in one tensor,
heads first, so that what is gathered for N sequences is two contiguous batches of G·N for the matrix products.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from serving.scheduler import Chunk
from trainer.model.attention import Far, as_bias, attend
from trainer.model.config import ModelConfig


class BlockStore:
    """The tensors behind a `BlockPool`: keys, then values [2G, blocks, block_size · K] of each layer. One more block
    than the pool has takes what padding writes."""

    def __init__(
        self, config: ModelConfig, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.config, self.block_size = config, block_size
        self.scratch_slot = num_blocks * block_size
        shape = (2 * config.num_key_value_heads, num_blocks + 1, block_size * config.head_dim)
        self.layers = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]

    def slots(self, layer: int) -> Tensor:
        """Keys, then values, of every slot, [2G, slots, K]."""
        cache = self.layers[layer]
        return cache.view(len(cache), -1, self.config.head_dim)

    def write(self, layer: int, slots_T: Tensor, kv_TGK: Tensor) -> None:
        """Keys and values [T, 2G, K]."""
        self.slots(layer).index_copy_(1, slots_T, kv_TGK.transpose(0, 1))

    def read(self, layer: int, table_NM: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [G·N, S, K] of the blocks of N sequences, M blocks each."""
        gathered = self.layers[layer].index_select(1, table_NM.flatten())
        k_BSK, v_BSK = gathered.view(2, self.config.num_key_value_heads * len(table_NM), -1, self.config.head_dim)
        return k_BSK, v_BSK


@dataclass(frozen=True)
class _Group:
    """Rows of the batch that attend together: N sequences of L new tokens each."""

    first: int
    end: int
    table_NM: Tensor
    ends_N: Tensor  # tokens of each sequence, the new ones included
    bias_NLS: Tensor


class PagedBatch:
    """The `KVCache` of one step: chunks of one token first, which attend together, then the longer ones one by one.

    Args:
        padded: tokens of the batch with what is padded to its end.
    """

    def __init__(
        self, store: BlockStore, chunks: Items[Chunk], padded: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.store, self.device, self.dtype = store, device, dtype
        slots = [slot for chunk in chunks for slot in _slots(chunk, store.block_size)]
        self.padding = padded - len(slots)
        self.slots_T = torch.tensor(slots + [store.scratch_slot] * self.padding, device=device)
        self.decoding = sum(chunk.count == 1 for chunk in chunks)
        assert all(chunk.count == 1 for chunk in chunks[: self.decoding]), "chunks of one token come first"
        self.groups = [self._group(0, chunks[: self.decoding])] if self.decoding else []
        first = self.decoding
        for chunk in chunks[self.decoding :]:
            self.groups.append(self._group(first, [chunk]))
            first += chunk.count

    def attend(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        """The batch as one row, for the network of `trainer.model`."""
        assert far is None, "a global aggregate is refused when it is loaded"
        assert q_BHLK.shape[0] == 1, "a paged batch is one flat row of tokens"
        qkv_TNK = torch.cat((q_BHLK[0], k_BGLK[0], v_BGLK[0])).transpose(0, 1)
        return self.attend_packed(layer, qkv_TNK).view(1, len(qkv_TNK), -1, q_BHLK.shape[3]).transpose(1, 2)

    def attend_packed(self, layer: int, qkv_TNK: Tensor) -> Tensor:
        """Attention [T, H·K] of rotated queries and keys, and values; the new keys and values are stored."""
        heads = self.store.config.num_attention_heads
        self.store.write(layer, self.slots_T, qkv_TNK[:, heads:])
        return self._attend_groups(layer, qkv_TNK[:, :heads], self.groups)

    def rotate_and_attend(self, layer: int, qkv_TNK: Tensor, rotary: tuple[Tensor, Tensor], kernels: Any) -> Tensor:
        """The same for queries and keys that are not rotated yet, by the kernels of layers.cpp."""
        config, store = self.store.config, self.store.slots(layer)
        kernels.rotate_and_store(qkv_TNK, *rotary, store, self.slots_T)
        if not self.decoding:
            return self._attend_groups(layer, qkv_TNK[:, : config.num_attention_heads], self.groups)
        first, *others = self.groups
        window = config.sliding_window or 0
        out_ND: Tensor = kernels.attend(qkv_TNK, store, first.table_NM, first.ends_N, self.store.block_size, window)
        if not others:
            return out_ND
        return torch.cat((out_ND, self._attend_groups(layer, qkv_TNK[:, : config.num_attention_heads], others)))

    def _attend_groups(self, layer: int, q_THK: Tensor, groups: Items[_Group]) -> Tensor:
        parts = [self._attend_group(layer, group, q_THK[group.first : group.end]) for group in groups]
        if self.padding:
            parts.append(parts[0].new_zeros(self.padding, parts[0].shape[1]))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _attend_group(self, layer: int, group: _Group, q_THK: Tensor) -> Tensor:
        """Attention [N·L, H·K] of one group over its own blocks."""
        N, L, _ = group.bias_NLS.shape
        k_BSK, v_BSK = self.store.read(layer, group.table_NM)
        if L > 1:
            out_1HLK = attend(q_THK.transpose(0, 1).unsqueeze(0), k_BSK[None], v_BSK[None], group.bias_NLS[:, None])
            return out_1HLK[0].transpose(0, 1).reshape(L, -1)
        G, K = self.store.config.num_key_value_heads, q_THK.shape[2]
        q_BRK = q_THK.view(N, G, -1, K).transpose(0, 1).reshape(G * N, -1, K)
        bias_BRS = group.bias_NLS.expand(G, N, 1, -1).reshape(G * N, 1, -1)
        scores_BRS = torch.baddbmm(bias_BRS, q_BRK, k_BSK.transpose(1, 2), alpha=K**-0.5)
        out_BRK = torch.bmm(scores_BRS.softmax(dim=-1), v_BSK)
        return out_BRK.view(G, N, -1).transpose(0, 1).reshape(N, -1)

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
        end, ends_N = first + sum(chunk.count for chunk in chunks), torch.tensor(ends, device=self.device)
        return _Group(first, end, torch.tensor(table, device=self.device), ends_N, as_bias(seen_NLS, self.dtype))


def _slots(chunk: Chunk, block_size: int) -> list[int]:
    """Where in the cache each token of a chunk lies."""
    positions = range(chunk.start, chunk.start + chunk.count)
    return [chunk.sequence.blocks[at // block_size] * block_size + at % block_size for at in positions]

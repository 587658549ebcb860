"""Keys and values while rows are decoded together: a ring of the window, and the slots of what has left it.

Shapes: B rows, L new tokens of each, G key/value heads, K width of a head, S tokens of a chunk or keys that are seen,
M slots.
"""

import torch
from torch import Tensor

from trainer.model.attention import Far, Sight, as_bias, attend, attend_causal, rotary_tables, rotate
from trainer.model.config import ModelConfig
from trainer.model.long_context import (
    absorb,
    last_slots,
    rotate_slots,
    slot_bias,
    slot_counts,
    slot_means,
    summaries_seen,
    summarise,
)
from trainer.model.long_rows import BlockRows, FlexRows, look


class LeftPaddedCache:
    """Keys and values of B rows that all end at the same column; padding stands on the left and is never seen.

    The last R columns are kept, column c at c mod R: R is the window, or `capacity` where that is less. With a global
    aggregate, its M slots lie behind them. So a sequence's memory stops growing at the window.
    """

    def __init__(self, config: ModelConfig, lengths_B: Tensor, capacity: int, dtype: torch.dtype) -> None:
        self.config = config
        self.used = 0
        self.first_B = lengths_B.max() - lengths_B
        self.ring = min(config.sliding_window or capacity, capacity)
        self.slots = config.aggregate_slots if capacity > self.ring else 0
        self.sight: Tensor | Sight = torch.empty(0)  # of the step that is running; made at its first layer
        B, G, K, device = len(lengths_B), config.num_key_value_heads, config.head_dim, lengths_B.device

        def zeros(*shape: int, dtype: torch.dtype = dtype) -> list[Tensor]:
            return [torch.zeros(B, G, *shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]

        self.keys, self.values = zeros(self.ring + self.slots, K), zeros(self.ring + self.slots, K)
        self.salience = zeros(self.ring) if self.slots else []
        # What lies in the slots before division and rotation: sums of the summaries' keys, and of their values.
        self.sums = [zeros(self.slots, K, dtype=torch.float32) for _ in range(2)] if self.slots else []

    @property
    def position_B(self) -> Tensor:
        """Of the next token in its row."""
        return self.used - self.first_B

    def attend(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        if self.used == 0:
            out = self._read_prompt(layer, q_BHLK, k_BGLK, v_BGLK, far)
        else:
            out = self._step(layer, q_BHLK, k_BGLK, v_BGLK, far)
        if layer == len(self.keys) - 1:
            self.used += q_BHLK.shape[2]
        return out

    def _read_prompt(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        """The first call: the rows see themselves, padding being a document of its own."""
        L = q_BHLK.shape[2]
        if layer == 0:
            real_BL = torch.arange(L, device=self.first_B.device) >= self.first_B.unsqueeze(1)
            self.sight = look(self.config, real_BL, real_BL.long(), q_BHLK.dtype)
        if isinstance(self.sight, Tensor):
            out = attend_causal(q_BHLK, k_BGLK, v_BGLK, self.sight)
        else:
            out = self.sight.attend(q_BHLK, k_BGLK, v_BGLK, far)
        self._store(layer, k_BGLK, v_BGLK, far)
        if far is not None and isinstance(self.sight, BlockRows | FlexRows):
            self.sums[0][layer], self.sums[1][layer] = last_slots(self.sight.layout, far, v_BGLK)
            self._show_slots(layer, self.position_B + L - 1)
        return out

    def _step(self, layer: int, q_BHLK: Tensor, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> Tensor:
        """One more token a row."""
        assert q_BHLK.shape[2] == 1, "after the prompt, tokens come one by one"
        if self.slots:
            self._absorb(layer)
        self._store(layer, k_BGLK, v_BGLK, far)
        if layer == 0:
            self.sight = self._bias(q_BHLK.dtype)
        assert isinstance(self.sight, Tensor)
        S = self.sight.shape[-1]
        return attend(q_BHLK, self.keys[layer][:, :, :S], self.values[layer][:, :, :S], self.sight)

    def _store(self, layer: int, k_BGLK: Tensor, v_BGLK: Tensor, far: Far | None) -> None:
        kept = min(k_BGLK.shape[2], self.ring)
        end = self.used + k_BGLK.shape[2]
        places = torch.arange(end - kept, end, device=k_BGLK.device) % self.ring
        self.keys[layer][:, :, places] = k_BGLK[:, :, -kept:]
        self.values[layer][:, :, places] = v_BGLK[:, :, -kept:]
        if self.slots:
            assert far is not None
            self.salience[layer][:, :, places] = far.salience_BGL[:, :, -kept:]

    def _bias(self, dtype: torch.dtype) -> Tensor:
        """What the token of this step sees, [B, 1, 1, S]: the columns kept, its row's, and the slots that hold any."""
        end = self.used + 1
        place_S = torch.arange(min(end, self.ring), device=self.first_B.device)
        column_S = end - 1 - (end - 1 - place_S) % self.ring
        bias_BS = as_bias(column_S >= self.first_B.unsqueeze(1), dtype)
        if self.slots and end > self.ring:
            counts_BM = slot_counts(summaries_seen(self.config, self.position_B), self.slots)
            bias_BS = torch.cat((bias_BS, slot_bias(self.config, counts_BM).to(dtype)), dim=1)
        return bias_BS[:, None, None]

    def _absorb(self, layer: int) -> None:
        """Where a chunk's first token leaves the window with this step, its summary goes into the slots."""
        W, S = self.ring, self.config.chunk
        due_B = (self.position_B >= W) & (self.position_B % S == 0)
        if not bool(due_B.any()):
            return
        places = torch.arange(self.used, self.used + S, device=due_B.device) % W
        positions_BS = self.position_B.unsqueeze(1) - W + torch.arange(S, device=due_B.device)
        cos, sin = rotary_tables(self.config, positions_BS)
        unrotated_BGSK = rotate(self.keys[layer][:, :, places].float(), cos, -sin)
        held_B = (summaries_seen(self.config, self.position_B) - 1).clamp(min=0)
        for sums, x_BGSK in zip(self.sums, (unrotated_BGSK, self.values[layer][:, :, places]), strict=True):
            summary_BGK = summarise(x_BGSK, self.salience[layer][:, :, places])
            sums[layer] = absorb(sums[layer], summary_BGK, held_B, due_B)
        self._show_slots(layer, self.position_B)

    def _show_slots(self, layer: int, position_B: Tensor) -> None:
        """Write the slots where queries at these positions and in the rest of their chunk find them."""
        counts_BM = slot_counts(summaries_seen(self.config, position_B), self.slots)
        chunk_B = position_B // self.config.chunk
        keys_BGMK, values_BGMK = (slot_means(sums[layer], counts_BM).to(self.keys[layer].dtype) for sums in self.sums)
        self.keys[layer][:, :, self.ring :] = rotate_slots(self.config, keys_BGMK, chunk_B)
        self.values[layer][:, :, self.ring :] = values_BGMK

    def keep(self, rows: Tensor) -> None:
        """Only these rows go on."""
        self.first_B = self.first_B[rows]
        for tensors in (self.keys, self.values, self.salience, *self.sums):
            tensors[:] = [tensor[rows] for tensor in tensors]

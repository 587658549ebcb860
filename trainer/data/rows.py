"""Packed rows as a training stage reads them: memory-mapped arrays, drawn without replacement."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.artifacts import is_complete
from trainer.data.drawn import row_of_draw
from trainer.data.packing import ARRAYS
from trainer.spec import DOMAINS, Domain


@dataclass(frozen=True)
class Batch:
    """B rows of L tokens. A token is a target where `targets_mask_BL` is true: it counts and its row's document has
    a token before it."""

    tokens_BL: Tensor
    segments_BL: Tensor
    loss_mask_BL: Tensor
    domains_BL: Tensor
    structure_BL: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, f"{name}_BL").to(device) for name in ARRAYS))

    @property
    def targets_BL(self) -> Tensor:
        """The next token of each position; the last position has none and repeats the first."""
        return self.tokens_BL.roll(-1, dims=1)

    @property
    def targets_mask_BL(self) -> Tensor:
        """Where the next token belongs to the same document and counts in the loss."""
        mask_BL = self.loss_mask_BL.roll(-1, dims=1) & (self.segments_BL == self.segments_BL.roll(-1, dims=1))
        mask_BL &= self.segments_BL > 0
        mask_BL[:, -1] = False
        return mask_BL

    def tokens_by_domain(self) -> dict[Domain, int]:
        """How many tokens of each domain there are, padding left out."""
        counts = torch.bincount(self.domains_BL.flatten().int() + 1, minlength=len(DOMAINS) + 1)[1:].tolist()
        return dict(zip(DOMAINS, counts, strict=True))


class Rows:
    """One source's rows of one split."""

    def __init__(self, folder: Path) -> None:
        self.arrays: list[NDArray[np.generic]] = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def within(self, tokens: int) -> int:
        """How many rows hold that many tokens together; at least one."""
        return max(1, tokens // int(self.arrays[0].shape[1]))

    def take(self, rows: NDArray[np.int64]) -> Batch:
        tokens, segments, *rest = (torch.from_numpy(np.ascontiguousarray(array[rows])) for array in self.arrays)
        return Batch(tokens.long(), segments.long(), *rest)

    def drawn(self, start: int, count: int, seed: int) -> NDArray[np.int64]:
        """Row numbers of draws start … start+count: every row once an epoch, each epoch in an order of its own."""
        return np.array([row_of_draw(draw, len(self), seed) for draw in range(start, start + count)], dtype=np.int64)


def open_rows(tokens: Path, split: str) -> dict[str, Rows]:
    """Source name -> rows of a tokenize job's `tokens` artifact; sources without rows are left out.

    Raises:
        ValueError: the artifact was not finished, or holds no row.
    """
    if not is_complete(tokens):
        raise ValueError(f"{tokens} was not finished; run its tokenize job again")
    sources = {path.parent.name: Rows(path) for path in sorted(tokens.glob(f"*/{split}"))}
    sources = {name: rows for name, rows in sources.items() if len(rows)}
    if not sources:
        raise ValueError(f"{tokens} holds no {split} rows; give the tokenize job more documents or problems")
    return sources


def concatenate(batches: list[Batch]) -> Batch:
    return Batch(*(torch.cat([getattr(b, f"{name}_BL") for b in batches]) for name in ARRAYS))

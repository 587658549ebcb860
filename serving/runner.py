"""A batch of chunks -> the network -> scores of each next token."""

from collections.abc import Callable
from collections.abc import Sequence as Items

import torch
from torch import Tensor

from serving.kernel_model import KernelTransformer
from serving.packed_matrix import bucket
from serving.packed_model import PackedTransformer
from serving.paged_attention import BlockStore, PagedBatch
from serving.scheduler import Chunk
from trainer.model.transformer import Output, Transformer

Network = Transformer | PackedTransformer | KernelTransformer
Read = Callable[[Chunk, Tensor], None]


def _unread(chunk: Chunk, hidden_LD: Tensor) -> None:
    """Nobody asks for hidden states."""


class Runner:
    """The network with its KV cache. All tokens of a batch are one flat row, so experts see them together."""

    def __init__(self, model: Network, num_blocks: int, block_size: int) -> None:
        self.model = model
        if isinstance(model, Transformer):
            self.device, self.dtype = model.embed_tokens.weight.device, model.embed_tokens.weight.dtype
        else:
            self.device, self.dtype = torch.device("cpu"), model.dtype
        self.store = BlockStore(model.config, num_blocks, block_size, self.dtype, self.device)

    @torch.inference_mode()
    def run(self, chunks: Items[Chunk], read: Read = _unread) -> tuple[list[Chunk], Tensor]:
        """The chunks that reach the end of their sequence, and float32 scores [N, V] of what follows each.

        `read` gets the hidden states [L, D] of sequences that share no blocks because their prompts are read.
        """
        chunks = sorted(chunks, key=lambda chunk: chunk.count > 1)
        output = self.forward(chunks)
        last, at = [], 0
        for chunk in chunks:
            at += chunk.count
            if chunk.samples:
                last.append(at - 1)
            if not chunk.sequence.reuse:
                read(chunk, output.hidden_BLD[0, at - chunk.count : at])
        sampling = [chunk for chunk in chunks if chunk.samples]
        hidden_ND = output.hidden_BLD[0, torch.tensor(last, dtype=torch.long, device=self.device)]
        return sampling, self.model.logits(hidden_ND)

    def forward(self, chunks: Items[Chunk]) -> Output:
        """Hidden states [1, T, D] of all tokens of the batch; chunks of one token must come first."""
        tokens = [token for c in chunks for token in c.sequence.tokens[c.start : c.start + c.count]]
        positions = [position for c in chunks for position in range(c.start, c.start + c.count)]
        if isinstance(self.model, Transformer):
            output: Output = self.model(
                torch.tensor([tokens], device=self.device),
                positions_BL=torch.tensor([positions], device=self.device),
                cache=PagedBatch(self.store, chunks, len(tokens), self.dtype, self.device),
            )
            return output
        if isinstance(self.model, KernelTransformer):
            cache = PagedBatch(self.store, chunks, len(tokens), self.dtype, self.device)
            return self.model(torch.tensor(tokens), torch.tensor(positions), cache)
        padding = [0] * (bucket(len(tokens)) - len(tokens))
        cache = PagedBatch(self.store, chunks, len(tokens) + len(padding), self.dtype, self.device)
        return self.model(torch.tensor(tokens + padding), torch.tensor(positions + padding), cache, real=len(tokens))

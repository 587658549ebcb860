"""The network by the kernels of layers.cpp: each weight is read once a step, and a layer is a handful of calls.

The mathematics is `trainer.model`'s, which tests compare it with. Each norm's weight is folded into the matrices behind
it. Shapes: T tokens, D hidden size, N heads of queries, keys and values together, K width of a head, E experts, k of
them a token.
"""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from serving.kernels import OUTPUTS, interleave, kernels, pack
from serving.paged_attention import PagedBatch
from serving.rotary import signed_tables
from trainer.model.config import ModelConfig
from trainer.model.moe import Routing
from trainer.model.transformer import Block, Output, Transformer


def fits(config: ModelConfig) -> bool:
    """Whether the kernels can compute a network of this shape: whole blocks and registers everywhere."""
    sizes = (config.hidden_size, config.intermediate_size, config.vocab_size, config.head_dim)
    return all(size % OUTPUTS == 0 for size in sizes)


class KernelBlock:
    """The packed weights of one layer."""

    def __init__(self, block: Block, dtype: torch.dtype) -> None:
        attention, moe, norm_D = block.attention, block.moe, block.post_attention_layernorm.weight
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        in_front = torch.cat([projection.weight for projection in projections]) * block.input_layernorm.weight
        self.qkv, self.out = pack(in_front, dtype), pack(attention.o_proj.weight, dtype)
        self.router_ED = (moe.router.weight * norm_D).float().contiguous()
        self.gate_up = pack(interleave(moe.gate_up_EGD * norm_D), dtype)
        self.down = pack(moe.down_EDF, dtype)


class KernelTransformer:
    """`Transformer` for inference over a paged cache.

    Args:
        dtype: of the weights, bfloat16 or int8; all else is bfloat16, sums are float32.
    """

    dtype = torch.bfloat16

    def __init__(self, model: Transformer, dtype: torch.dtype) -> None:
        assert fits(model.config)
        self.config, self._kernels = model.config, kernels()
        self.embedding_VD = model.embed_tokens.weight.detach().bfloat16()
        self.norm_D = model.norm.weight.detach().bfloat16()
        self.blocks = [KernelBlock(cast(Block, block), dtype) for block in model.layers]
        self.lm_head = pack(model.lm_head.weight, dtype)
        self._nothing = torch.empty(0, dtype=torch.bfloat16)

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, cache: PagedBatch) -> Output:
        x_TD = F.embedding(tokens_T, self.embedding_VD)
        rotary = signed_tables(self.config, positions_T)
        router_logits, routing = [], []
        for layer, block in enumerate(self.blocks):
            x_TD, logits_TE, went = self._layer(layer, block, x_TD, rotary, cache)
            router_logits.append(logits_TE)
            routing.append(went)
        hidden_TD = F.rms_norm(x_TD, (x_TD.shape[1],), self.norm_D, self.config.rms_norm_eps)
        return Output(hidden_TD.unsqueeze(0), tuple(router_logits), tuple(routing))

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """Scores of the next token in float32, [T, D] -> [T, V]."""
        scores_TV: Tensor = self._kernels.linear(hidden_TD.contiguous(), *self.lm_head, -1.0, self._nothing)
        return scores_TV.float()

    def _layer(
        self, layer: int, block: KernelBlock, x_TD: Tensor, rotary: tuple[Tensor, Tensor], cache: PagedBatch
    ) -> tuple[Tensor, Tensor, Routing]:
        compiled, eps = self._kernels, self.config.rms_norm_eps
        qkv_TNK = compiled.linear(x_TD, *block.qkv, eps, self._nothing).view(len(x_TD), -1, self.config.head_dim)
        attended_TD = cache.rotate_and_attend(layer, qkv_TNK, rotary, compiled)
        x_TD = compiled.linear(attended_TD, *block.out, -1.0, x_TD)
        top_k = self.config.num_experts_per_tok
        x_TD, logits_TE, choices_Tk, weights_Tk = compiled.experts(
            x_TD, block.router_ED, *block.gate_up, *block.down, top_k, eps
        )
        return x_TD, logits_TE, Routing(weights_Tk, choices_Tk)

"""The network as a CPU without compiled kernels answers with it: weights laid out for torch's own, few and large
operations a layer.

The mathematics is `trainer.model`'s, which tests compare it with; only the order of the arithmetic differs. Each norm's
weight is folded into the matrices behind it.

Shapes: T tokens, padded to a `bucket`, D hidden size, N heads of queries, keys and values together, K width of a head,
E experts, k of them a token, R = T·k, F width of an expert, G = 2F.
"""

from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from serving.packed_matrix import Matrix, Rows, bucket
from serving.rotary import rotate, tables_of_heads
from trainer.model.config import ModelConfig
from trainer.model.moe import Routing
from trainer.model.transformer import Block, Output, Transformer


class PackedCache(Protocol):
    """Where keys and values lie; stores those of a step and returns what attention makes of them."""

    def attend_packed(self, layer: int, qkv_TNK: Tensor) -> Tensor:
        """Rotated queries and keys, and values, of all tokens -> attention [T, H·K]."""


class PackedExperts:
    """All experts of a layer, each multiplied with the tokens that chose it."""

    def __init__(self, block: Block, matrix: type[Matrix], config: ModelConfig) -> None:
        norm_D, moe = block.post_attention_layernorm.weight, block.moe
        self.top_k = config.num_experts_per_tok
        self.router_DE = (moe.router.weight * norm_D).float().t().contiguous()
        gate_up_EGD = moe.gate_up_EGD * norm_D
        self.gate_up = [matrix(weight_GD) for weight_GD in gate_up_EGD]
        self.down = [matrix(weight_DF) for weight_DF in moe.down_EDF]

    def __call__(self, h_TD: Tensor, real: int) -> tuple[Tensor, Tensor, Routing]:
        """What the experts add, the router's logits and the routing; rows from `real` on are padding."""
        logits_TE = h_TD.float() @ self.router_DE
        best_Tk, choices_Tk = logits_TE.topk(self.top_k, dim=-1)
        # The softmax over all experts, renormalised over the best, is the softmax over the best.
        routing = Routing(best_Tk.softmax(dim=-1), choices_Tk)
        y_TD = self.by_token(h_TD, routing) if real == 1 else self.sorted(h_TD, routing, real)
        return y_TD, logits_TE, routing

    def _expert(self, expert: int, rows: Rows) -> Tensor:
        gate_up_RG = self.gate_up[expert](rows)
        gate_RF, up_RF = gate_up_RG.chunk(2, dim=1)
        down = self.down[expert]
        y_RD: Tensor = down(down.rows(F.silu(gate_RF).mul_(up_RF)))
        return y_RD

    def by_token(self, h_1D: Tensor, routing: Routing) -> Tensor:
        """A single token: no sorting."""
        rows = self.gate_up[0].rows(h_1D)
        y_kD = torch.cat([self._expert(expert, rows) for expert in routing.choices_Tk[0].tolist()])
        return routing.weights_Tk.to(y_kD.dtype) @ y_kD

    def sorted(self, h_TD: Tensor, routing: Routing, real: int) -> Tensor:
        """Rows grouped by expert. A product is of a bucket's number of rows; those past an expert's own are dropped."""
        choices_R = routing.choices_Tk[:real].flatten()
        order_R = choices_R.argsort(stable=True)
        counts = torch.bincount(choices_R, minlength=len(self.down)).tolist()
        room = bucket(max(counts))
        padded_R = F.pad(order_R // self.top_k, (0, room))
        sorted_rows = self.gate_up[0].rows(h_TD).take(padded_R)
        parts, start = [], 0
        for expert, count in enumerate(counts):
            if count:
                parts.append(self._expert(expert, sorted_rows.part(start, start + bucket(count)))[:count])
                start += count
        y_RD = torch.cat(parts)
        place_R = torch.empty_like(order_R).scatter_(0, order_R, torch.arange(len(order_R)))
        y_TkD = y_RD.index_select(0, place_R).view(real, self.top_k, -1)
        y_TD = (y_TkD * routing.weights_Tk[:real].unsqueeze(-1).to(y_RD.dtype)).sum(dim=1)
        return F.pad(y_TD, (0, 0, 0, len(routing.weights_Tk) - real)) if real < len(routing.weights_Tk) else y_TD


class PackedBlock:
    def __init__(self, block: Block, matrix: type[Matrix], config: ModelConfig) -> None:
        norm_D, attention = block.input_layernorm.weight, block.attention
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.eps, self.head_dim = config.rms_norm_eps, config.head_dim
        self.qkv = matrix(torch.cat([projection.weight for projection in projections]) * norm_D)
        self.out = matrix(attention.o_proj.weight)
        self.experts = PackedExperts(block, matrix, config)

    def __call__(
        self, layer: int, x_TD: Tensor, rotary: tuple[Tensor, Tensor], cache: PackedCache, real: int
    ) -> tuple[Tensor, Tensor, Routing]:
        qkv_TNK = self.qkv(self.qkv.rows(normalise(x_TD, self.eps))).view(len(x_TD), -1, self.head_dim)
        attended_TD = cache.attend_packed(layer, rotate(qkv_TNK, *rotary))
        x_TD = x_TD + self.out(self.out.rows(attended_TD))
        y_TD, router_logits_TE, routing = self.experts(normalise(x_TD, self.eps), real)
        return x_TD + y_TD, router_logits_TE, routing


def normalise(x_TD: Tensor, eps: float) -> Tensor:
    """x / rms(x), whose weight lies in the matrix behind."""
    norm_T1: Tensor = torch.linalg.vector_norm(x_TD, dim=1, keepdim=True, dtype=torch.float32)
    return x_TD * norm_T1.square_().div_(x_TD.shape[1]).add_(eps).rsqrt_().to(x_TD.dtype)


class PackedTransformer:
    """`Transformer` for inference over a paged cache."""

    dtype = torch.bfloat16

    def __init__(self, model: Transformer, matrix: type[Matrix]) -> None:
        self.config = model.config
        self.embedding_VD = model.embed_tokens.weight.detach().bfloat16()
        self.norm_D = model.norm.weight.detach().bfloat16()
        self.blocks = [PackedBlock(cast(Block, block), matrix, model.config) for block in model.layers]
        self.lm_head = matrix(model.lm_head.weight)

    def __call__(self, tokens_T: Tensor, positions_T: Tensor, cache: PackedCache, real: int) -> Output:
        x_TD = F.embedding(tokens_T, self.embedding_VD)
        rotary = tables_of_heads(self.config, positions_T)
        router_logits, routing = [], []
        for layer, block in enumerate(self.blocks):
            x_TD, logits_TE, went = block(layer, x_TD, rotary, cache, real)
            router_logits.append(logits_TE[:real])
            routing.append(Routing(*(part[:real] for part in went)))
        hidden_TD = F.rms_norm(x_TD[:real], (x_TD.shape[1],), self.norm_D, self.config.rms_norm_eps)
        return Output(hidden_TD.unsqueeze(0), tuple(router_logits), tuple(routing))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token in float32, [T, D] -> [T, V]."""
        scores: Tensor = self.lm_head(self.lm_head.rows(hidden))
        return scores.float()

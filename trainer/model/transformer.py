"""The network: a decoder whose inference mathematics is exactly Hugging Face's `MixtralForCausalLM`.

One definition for training, generation and serving; what differs is the cache passed in. Shapes: B rows, L tokens,
D hidden size, V vocabulary, T = B·L, E experts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trainer.model.attention import Attention, KVCache, Sight, positions_of, rotary_tables
from trainer.model.capacity import Room
from trainer.model.config import ModelConfig
from trainer.model.long_context import GlobalAggregate
from trainer.model.long_rows import look
from trainer.model.moe import MoE, Routing


@dataclass(frozen=True)
class Output:
    """What a forward pass leaves; all but the first with one entry a layer."""

    hidden_BLD: Tensor
    router_logits_TE: tuple[Tensor, ...]
    routing: tuple[Routing, ...]
    expert_outputs_TD: tuple[Tensor, ...] = ()  # what the experts add to the residual stream, where asked for


class RMSNorm(nn.Module):
    """x / rms(x) · weight, the mean square in float32 (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Block(nn.Module):
    """Attention, then experts, each on a normalised input and added to the residual stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, layer, GlobalAggregate(config) if config.aggregate_slots else None)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.moe = MoE(config)

    def forward(
        self,
        x_BLD: Tensor,
        rotary: tuple[Tensor, Tensor],
        sight: Tensor | Sight | None,
        cache: KVCache | None,
        room: Room | None,
    ) -> tuple[Tensor, Tensor, Tensor, Routing]:
        x_BLD = x_BLD + self.attention(self.input_layernorm(x_BLD), rotary, sight, cache)
        mixed_TD, router_logits_TE, routing = self.moe(self.post_attention_layernorm(x_BLD).flatten(0, 1), room)
        return x_BLD + mixed_TD.view_as(x_BLD), mixed_TD, router_logits_TE, routing


class Transformer(nn.Module):
    """The whole network. With `checkpoint_activations` only the input of each layer is kept for the backward pass and
    the layer computed once more there (Chen et al. 2016): a third more work, a fraction of the memory."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_activations = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Normal initialisation, the output projections scaled by 1/sqrt(2·layers) (Radford et al. 2019)."""
        std = self.config.initializer_range
        into_residual = std * (2 * self.config.num_hidden_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                narrow = name.endswith(("o_proj.weight", "down_EDF"))
                nn.init.normal_(parameter, std=into_residual if narrow else std, generator=generator)

    def forward(
        self,
        tokens_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        positions_BL: Tensor | None = None,
        cache: KVCache | None = None,
        capacity: Sequence[Room] | None = None,
        keep_expert_outputs: bool = False,
    ) -> Output:
        """Hidden states before the output projection.

        Args:
            tokens_BL: token ids.
            segments_BL: document number of each token in a packed row; tokens see their own document only, and
                positions restart at each.
            positions_BL: positions for the rotary embedding; by default 0, 1, 2, … in each document.
            cache: holds earlier keys and values and decides what is visible; without it a row sees itself.
            capacity: each layer's slots in this step; without it every expert takes all that come. The same must be
                given when the pass is recomputed.
            keep_expert_outputs: return what each layer's experts put out, too.
        """
        if positions_BL is None:
            segments = torch.zeros_like(tokens_BL) if segments_BL is None else segments_BL
            positions_BL = positions_of(segments)
        x_BLD = self.embed_tokens(tokens_BL)
        cos, sin = (table.to(x_BLD.dtype) for table in rotary_tables(self.config, positions_BL))
        sight = look(self.config, tokens_BL, segments_BL, x_BLD.dtype) if cache is None else None
        router_logits, routing, expert_outputs = [], [], []
        for layer, block in enumerate(self.layers):
            inputs = (x_BLD, (cos, sin), sight, cache, None if capacity is None else capacity[layer])
            if self.checkpoint_activations and torch.is_grad_enabled():
                x_BLD, mixed_TD, logits_TE, went = checkpoint(block, *inputs, use_reentrant=False)
            else:
                x_BLD, mixed_TD, logits_TE, went = block(*inputs)
            router_logits.append(logits_TE)
            routing.append(went)
            if keep_expert_outputs:
                expert_outputs.append(mixed_TD)
        return Output(self.norm(x_BLD), tuple(router_logits), tuple(routing), tuple(expert_outputs))

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token in float32, [..., D] -> [..., V]."""
        scores: Tensor = self.lm_head(hidden)
        return scores.float()


@dataclass(frozen=True)
class Parameters:
    """How many there are; `active` of them work on one token, the embedding counted whole."""

    total: int
    active: int
    experts: int


def count_parameters(config: ModelConfig) -> Parameters:
    """Counted on a network without storage, so that any size takes moments."""
    with torch.device("meta"):
        model = Transformer(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    experts = sum(p.numel() for name, p in model.named_parameters() if name.endswith(("gate_up_EGD", "down_EDF")))
    idle = experts // config.num_local_experts * (config.num_local_experts - config.num_experts_per_tok)
    return Parameters(total, total - idle, experts)

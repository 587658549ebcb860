"""Floating-point operations of the network's matrix products; a multiply-add counts as two. Imports no torch.

Only what the mathematics needs is counted (Chowdhery et al. 2022, "PaLM", appendix B): a forward pass that is repeated
to save memory, and rows that only pad an expert's segment, take time without counting as work. Symbols: B rows, L
tokens a row, T = B·L, D hidden size, H query and G key/value heads of width K, E experts of width F of which a token
takes k, V vocabulary.
"""

from dataclasses import dataclass

from trainer.model.config import ModelConfig


@dataclass(frozen=True)
class Flops:
    """`products` are those with weights, `attention` those of queries with keys and of probabilities with values."""

    products: float
    attention: float

    @property
    def total(self) -> float:
        return self.products + self.attention


def mean_visible(length: int, window: int | None) -> float:
    """Keys that a token of a row sees on average: its past and itself, at most `window` of them.

    (1 + 2 + … + w + (L - w)·w) / L with w = min(L, window).
    """
    w = min(length, window or length)
    return (w * (w + 1) / 2 + (length - w) * w) / length


def forward_flops(config: ModelConfig, rows: int, length: int) -> Flops:
    """One forward pass over `rows` rows of `length` tokens.

    products  = 2·T·(layers·(2·D·H·K + 2·D·G·K + D·E + k·3·D·F) + D·V)
    attention = 2·T·layers·2·H·K·mean_visible
    """
    D, K, layers = config.hidden_size, config.head_dim, config.num_hidden_layers
    H, G = config.num_attention_heads, config.num_key_value_heads
    projections = 2 * D * H * K + 2 * D * G * K
    experts = D * config.num_local_experts + config.num_experts_per_tok * 3 * D * config.intermediate_size
    tokens = rows * length
    return Flops(
        products=2.0 * tokens * (layers * (projections + experts) + D * config.vocab_size),
        attention=4.0 * tokens * layers * H * K * mean_visible(length, config.sliding_window),
    )


def training_flops(config: ModelConfig, rows: int, length: int) -> float:
    """Forward and backward: each product has two in the backward pass, one for each factor's gradient."""
    return 3 * forward_flops(config, rows, length).total

"""The rotary embedding as multiplications with two tables, of a head and of the same head with its halves swapped.

Shapes: T tokens, N heads of queries, keys and values together, K width of a head.
"""

import torch
from torch import Tensor

from trainer.model.attention import rotary_tables
from trainer.model.config import ModelConfig


def signed_tables(config: ModelConfig, positions_T: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, K] in float32; the sign of the half that is swapped lies in the sines."""
    cos_TK, sin_TK = (table_11TK[0, 0] for table_11TK in rotary_tables(config, positions_T.unsqueeze(0)))
    first_TK, second_TK = sin_TK.chunk(2, dim=1)
    return cos_TK.contiguous(), torch.cat((-first_TK, second_TK), dim=1)


def tables_of_heads(config: ModelConfig, positions_T: Tensor) -> tuple[Tensor, Tensor]:
    """The same for all heads at once, [T, N, K] bfloat16; those of the values leave them as they are."""
    turned, kept = config.num_attention_heads + config.num_key_value_heads, config.num_key_value_heads
    cos_TK, sin_TK = signed_tables(config, positions_T)
    cos_TNK = torch.ones(len(positions_T), turned + kept, config.head_dim)
    sin_TNK = torch.zeros_like(cos_TNK)
    cos_TNK[:, :turned] = cos_TK.unsqueeze(1)
    sin_TNK[:, :turned] = sin_TK.unsqueeze(1)
    return cos_TNK.bfloat16(), sin_TNK.bfloat16()


def rotate(x_TNK: Tensor, cos_TNK: Tensor, sin_TNK: Tensor) -> Tensor:
    """What `trainer.model.attention.rotate` computes."""
    return (x_TNK * cos_TNK).addcmul_(x_TNK.roll(x_TNK.shape[2] // 2, dims=2), sin_TNK)

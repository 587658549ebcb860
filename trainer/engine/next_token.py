"""The loss of a language model on a packed batch: the same for training, held-out loss and perplexity."""

from torch import Tensor

from trainer.data.rows import Batch
from trainer.engine.compilation import CrossEntropy
from trainer.model.transformer import Output, Transformer
from trainer.objectives import chunked_cross_entropy


def next_token_loss(
    model: Transformer, output: Output, batch: Batch, cross_entropy: CrossEntropy = chunked_cross_entropy
) -> Tensor:
    """Mean of -log p(next token) over the targets that count, a scalar in nat; 0 where none counts."""
    targets_T, counts_T = batch.targets_BL.flatten(), batch.targets_mask_BL.flatten()
    return cross_entropy(output.hidden_BLD.flatten(0, 1), model.lm_head.weight, targets_T, counts_T)

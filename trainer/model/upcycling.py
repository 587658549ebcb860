"""A network made larger so that it computes the same: more experts of one, more rows for new tokens.

Shapes: V vocabulary, D hidden size, E experts.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainer.model.config import ModelConfig

ROW_MULTIPLE = 64


def upcycle(
    config: ModelConfig, state: Mapping[str, Tensor], experts: int, top_k: int, generator: torch.Generator
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Sparse upcycling (Komatsuzaki et al. 2022, arXiv:2212.05055): copies of the one expert, and a random router.

    With equal experts E_1 = … = E_n = E and weights w_1 + … + w_k = 1 over the chosen ones, Σ w_j E_j(x) = E(x): the
    output is the dense network's, whichever experts the router chooses. Since it sends each token to experts of its
    own, their gradients differ from the first step on, and so do they after it.

    Args:
        config, state: of a network with one expert in each layer.

    Raises:
        ValueError: `top_k` exceeds `experts`.
    """
    assert config.num_local_experts == 1, "only a dense network can be upcycled"
    if top_k > experts:
        raise ValueError(f"top_k {top_k} exceeds experts {experts}: a token cannot go to more experts than there are")
    wider = config.model_copy(update={"num_local_experts": experts, "num_experts_per_tok": top_k})
    upcycled = {}
    for name, tensor in state.items():
        if name.endswith(("moe.gate_up_EGD", "moe.down_EDF")):
            upcycled[name] = tensor.repeat(experts, 1, 1)
        elif name.endswith("moe.router.weight"):
            router_ED = torch.empty(experts, config.hidden_size)
            upcycled[name] = router_ED.normal_(std=config.initializer_range, generator=generator)
        else:
            upcycled[name] = tensor
    return wider, upcycled


def grow_vocabulary(
    config: ModelConfig, state: Mapping[str, Tensor], tokens: int
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Rows for `tokens` tokens, and some more so that matrices keep a size that hardware likes.

    A new row is the mean of the old ones (Hewitt 2021): a token with it is as likely as an average one, so that the
    probabilities of the others hardly change. Their logits do not change at all.
    """
    if tokens <= config.vocab_size:
        return config, dict(state)
    size = -(-tokens // ROW_MULTIPLE) * ROW_MULTIPLE
    grown = dict(state)
    for name in ("embed_tokens.weight", "lm_head.weight"):
        rows_VD = state[name]
        new_VD = rows_VD.mean(dim=0).expand(size - config.vocab_size, -1)
        grown[name] = torch.cat((rows_VD, new_VD))
    return config.model_copy(update={"vocab_size": size}), grown

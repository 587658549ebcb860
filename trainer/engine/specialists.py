"""What makes experts heterogeneous in training: groups for domains, and heads that predict structure labels.

The heads read what a layer's experts put out together, normalised. A token's loss weighs as much as the share of its
routing weight that its group's experts hold, and its gradient reaches its experts in proportion to their weight: tokens
that the group handles alone, most of them once the router has learnt the roles, teach its experts alone.

Shapes: T tokens, E experts, k experts a token, D hidden size, N tokens with a label, K kinds of labels.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.data.rows import Batch
from trainer.data.structure.kinds import CODE_KINDS, LATEX_KINDS
from trainer.model.moe import expert_counts
from trainer.model.transformer import Output, Transformer
from trainer.objectives import specialisation_loss, structure_loss
from trainer.spec import DOMAINS, Domain, SpecialistSettings

GROUPS = ("code", "science", "general")
_GROUP_OF: dict[Domain, int] = {"code": 0, "science": 1, "multilingual": 2, "general": 2}
_KINDS = {"code": CODE_KINDS, "science": LATEX_KINDS}  # the groups that have heads


class Specialists:
    """The groups of one network's experts and the heads of those that have labels.

    Raises:
        ValueError: the groups are not all of a layer's experts.
    """

    def __init__(self, settings: SpecialistSettings, model: Transformer) -> None:
        config, like = model.config, model.embed_tokens.weight
        settings.check(config)
        self.settings = settings
        self.heads = nn.ModuleDict(
            {
                group: nn.ModuleList(_head(config.hidden_size, len(kinds)) for _ in range(config.num_hidden_layers))
                for group, kinds in _KINDS.items()
            }
        ).to(like.device, like.dtype)
        sizes = torch.tensor(settings.sizes, device=like.device)
        self.group_of_expert_E = torch.arange(len(GROUPS), device=like.device).repeat_interleave(sizes)
        self.group_of_domain = torch.tensor([*(_GROUP_OF[domain] for domain in DOMAINS), -1], device=like.device)

    def loss(self, output: Output, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Weighted sum of the specialisation loss and the heads' losses, each a mean over layers, and the parts."""
        group_T = self._group_of_tokens(batch)
        routers = output.router_logits_TE
        drawn = torch.stack([specialisation_loss(logits, group_T, self.settings.sizes) for logits in routers]).mean()
        parts = {"specialisation_loss": drawn.item()}
        total = self.settings.specialisation_weight * drawn
        for group in _KINDS:
            labelled_N = ((group_T == GROUPS.index(group)) & (batch.structure_BL.flatten() >= 0)).nonzero().squeeze(1)
            structure = self._structure_loss(group, output, batch.structure_BL.flatten()[labelled_N], labelled_N)
            parts[f"structure_loss/{group}"] = structure.item()
            total = total + self.settings.structure_weight * structure
        return total, parts

    def _structure_loss(self, group: str, output: Output, labels_N: Tensor, tokens_N: Tensor) -> Tensor:
        losses = []
        heads = cast(nn.ModuleList, self.heads[group])
        for head, x_TD, routing in zip(heads, output.expert_outputs_TD, output.routing, strict=True):
            x_ND = x_TD.index_select(0, tokens_N)
            in_group_Nk = self.group_of_expert_E[routing.choices_Tk[tokens_N]] == GROUPS.index(group)
            routed_N = (routing.weights_Tk[tokens_N] * in_group_Nk).sum(dim=1)
            logits_NK = head(F.rms_norm(x_ND, (x_ND.shape[1],)))
            losses.append(structure_loss(logits_NK, labels_N, routed_N))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def purity(self, output: Output, batch: Batch) -> dict[str, float]:
        """Share of each group's tokens' assignments that lie in the group's own experts, over all layers."""
        group_T = self._group_of_tokens(batch)
        found: dict[str, float] = {}
        for number, group in enumerate(GROUPS):
            experts = torch.cat([routing.choices_Tk[group_T == number].flatten() for routing in output.routing])
            if len(experts):
                own = self.group_of_expert_E[experts] == number
                found[f"group_purity/{group}"] = own.float().mean().item()
        return found

    def load_by_domain(self, output: Output, batch: Batch) -> list[list[list[float]]]:
        """Share of each layer's (token, choice) pairs by expert and domain, [layer][expert][domain]."""
        domain_T, experts = batch.domains_BL.flatten(), len(self.group_of_expert_E)
        counts = [expert_counts(output.routing, domain_T == number, experts) for number in range(len(DOMAINS))]
        counts_YES = torch.stack(counts, dim=2).double()
        load: list[list[list[float]]] = (counts_YES / counts_YES.sum(dim=(1, 2), keepdim=True)).tolist()
        return load

    def _group_of_tokens(self, batch: Batch) -> Tensor:
        """[T], -1 for padding, whose domain -1 is the table's last entry."""
        return self.group_of_domain[batch.domains_BL.flatten().long()]


def _head(size: int, kinds: int) -> nn.Linear:
    """Starts at zero: the first step teaches the head, the next ones the experts, too."""
    head = nn.Linear(size, kinds)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head

"""Claim 4: with experts for code and for science the article's model beats Llama 3 70B in those domains of MMLU.

At this size: the nano network with 2 code, 3 science and 3 general experts against the same network whose eight experts
are all alike. Both do the same operations a token (the heads that predict structure labels are dropped afterwards),
start from the same weights and see the same rows. Compared on held-out text: share of next tokens right and
cross-entropy, by domain; the measure is the mean over code and science.
"""

from statistics import fmean

import torch

from benchmarks.claims.claim import Claim, Measurement
from benchmarks.claims.training import mixed_rows, nano_spec, new_network, train
from trainer.data.rows import Rows
from trainer.engine.specialists import Specialists
from trainer.model.transformer import Transformer
from trainer.objectives import masked_mean, token_logprobs
from trainer.spec import DOMAINS, SpecialistSettings

STEPS, QUICK_STEPS = 600, 150
EXPERT_DOMAINS = ("code", "science")
ROWS_AT_ONCE = 16


@torch.no_grad()
def by_domain(model: Transformer, rows: Rows) -> dict[str, float]:
    """accuracy/<domain> in % and loss/<domain> in nat per token, over all rows; of the domains that they hold."""
    right, losses, domains = [], [], []
    for numbers in torch.split(torch.arange(len(rows)), ROWS_AT_ONCE):
        batch = rows.take(numbers.numpy())
        logits_BLV = model.logits(model(batch.tokens_BL, segments_BL=batch.segments_BL).hidden_BLD)
        counted_BL = batch.targets_mask_BL
        right.append((logits_BLV.argmax(dim=-1) == batch.targets_BL)[counted_BL].float())
        losses.append(-token_logprobs(logits_BLV, batch.targets_BL)[counted_BL])
        domains.append(batch.domains_BL[counted_BL])
    found: dict[str, float] = {}
    for number, domain in enumerate(DOMAINS):
        here = torch.cat(domains) == number
        if not bool(here.any()):
            continue
        found[f"accuracy/{domain}"] = 100 * masked_mean(torch.cat(right), here).item()
        found[f"loss/{domain}"] = masked_mean(torch.cat(losses), here).item()
    return found


@torch.no_grad()
def purity(model: Transformer, rows: Rows, settings: SpecialistSettings) -> dict[str, float]:
    batch = rows.take(torch.arange(min(ROWS_AT_ONCE, len(rows))).numpy())
    output = model(batch.tokens_BL, segments_BL=batch.segments_BL)
    return Specialists(settings, model).purity(output, batch)


def measure(seed: int, quick: bool) -> Measurement:
    settings, heldout = SpecialistSettings(), mixed_rows("heldout")
    arms: dict[str, dict[str, float]] = {}
    for name, specialists in (("alike", None), ("specialists", settings)):
        spec = nano_spec(seed, QUICK_STEPS if quick else STEPS, specialists)
        model = new_network(spec)
        train(spec, model)
        arms[name] = by_domain(model, heldout) | purity(model, heldout, settings)
    before, after = (fmean(arm[f"accuracy/{domain}"] for domain in EXPERT_DOMAINS) for arm in arms.values())
    details = {f"{arm}/{name}": value for arm, values in arms.items() for name, value in values.items()}
    return Measurement(before=before, after=after, details=details)


CLAIM = Claim(
    number=4,
    title="experts for code and science against experts that are all alike, equal operations",
    unit="% of next tokens right in held-out code and science",
    measure=measure,
    limits="MMLU itself is not measurable at this size, where any network answers at chance (25 %): it needs some "
    "billion parameters trained on trillions of tokens, and its questions",
)

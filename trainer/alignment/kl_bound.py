"""How far a policy has moved from its reference, and the way back to where it was near enough.

KL(policy || reference) a token = E over the policy's own answers of sum_v p(v) (log p(v) - log q(v)), taken exactly
over the vocabulary at each position, which varies far less than a sampled ratio.
"""

import shutil
from collections.abc import Sequence

import torch

from trainer.alignment.answers import Sequences, logits_of, pack, row_length
from trainer.artifacts import step_folder
from trainer.data.tokenizer import Tokenizer
from trainer.engine.loop import Loop
from trainer.intervals import Interval, ratio_of_sums
from trainer.model.generate import generate
from trainer.model.transformer import Transformer
from trainer.objectives import categorical_kl

INSIDE = "inside_kl_bound"  # in the loop's memory: the weights were measured, and lie inside


def fresh_generator(seed: int, step: int, purpose: int, device: torch.device) -> torch.Generator:
    """Random numbers that depend on the step alone, so that a resumed run draws what the unbroken one drew."""
    mixed = torch.Generator().manual_seed(seed * 1_000_003 + step * 101 + purpose)
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=mixed)))


@torch.no_grad()
def measure_kl(
    policy: Transformer,
    reference: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    generator: torch.Generator,
) -> Interval:
    """KL to the reference in nat per token on fresh answers of the policy, with a 95 % interval over answers."""
    completions = generate(
        policy,
        prompts,
        max_new_tokens=max_new_tokens,
        end_id=tokenizer.end_id,
        temperature=1.0,
        generator=generator,
    )
    sequences = Sequences(list(prompts), [completion.tokens for completion in completions])
    device = policy.embed_tokens.weight.device
    rows = pack(sequences, row_length(sequences.longest), tokenizer.pad_id, device)
    kl_BL = categorical_kl(logits_of(policy, rows), logits_of(reference, rows))
    return ratio_of_sums(rows.sums(kl_BL).tolist(), [len(answer) for answer in sequences.answers])


def retreat(loop: Loop) -> None:
    """Go back to the newest snapshot inside the bound; time spent beyond it still counts as spent.

    A snapshot written because the run was asked to stop may hold unmeasured weights: it is dropped.

    Raises:
        ValueError: no snapshot inside the bound is left.
    """
    seconds = loop.seconds
    loop.restore()
    while not loop.memory[INSIDE]:
        shutil.rmtree(step_folder(loop.run.folder.volatile, loop.step))
        if not any(loop.run.folder.volatile.glob("step_*")):
            raise ValueError("no snapshot inside the KL bound is left: start the job again with a lower optimizer.lr")
        loop.restore()
    loop.seconds = seconds

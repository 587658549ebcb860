"""R = 0.4 R_corr + 0.3 R_conc + 0.2 R_div + 0.1 R_safe (the article's weights; configurable), every part in [0, 1]."""

from collections.abc import Sequence
from typing import NamedTuple

from trainer.rewards.coherence import coherence
from trainer.rewards.correctness import correctness
from trainer.rewards.diversity import diversity
from trainer.rewards.safety import safety
from trainer.spec import RewardWeights


class Parts(NamedTuple):
    """The four rewards of one answer."""

    correctness: float
    coherence: float
    diversity: float
    safety: float


def score_group(
    texts: Sequence[str], tokens: Sequence[Sequence[int]], finished: Sequence[bool], expected: str
) -> list[Parts]:
    """The parts of every answer to one prompt.

    Args:
        texts: the completions as text.
        tokens: the same as token ids, which R_div counts.
        finished: whether a completion ended by itself; one that was cut off has given no answer.
        expected: the verified answer, an expression.
    """
    return [
        Parts(correctness(text, expected) if whole else 0.0, coherence(text), different, safety(text))
        for text, different, whole in zip(texts, diversity(tokens), finished, strict=True)
    ]


def composite_reward(parts: Parts, weights: RewardWeights) -> float:
    """R: the weighted sum of the parts, not divided by the weights."""
    return (
        weights.correctness * parts.correctness
        + weights.coherence * parts.coherence
        + weights.diversity * parts.diversity
        + weights.safety * parts.safety
    )

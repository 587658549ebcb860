"""R_div: does an answer use varied tokens, and does it differ from the other answers of its group?"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from trainer.rewards.coherence import ngrams


def normalised_entropy(tokens: Sequence[Hashable]) -> float:
    """H(token frequencies) / log(number of tokens): 1 if all differ, 0 for one token repeated or fewer than two."""
    if len(tokens) < 2:
        return 0.0
    shares = [count / len(tokens) for count in Counter(tokens).values()]
    return -sum(share * math.log(share) for share in shares) / math.log(len(tokens))


def shingles(tokens: Sequence[Hashable], n: int = 4) -> frozenset[tuple[Hashable, ...]]:
    """The set of n-grams; a shorter answer is one shingle of its own length."""
    return frozenset(ngrams(tokens, min(n, len(tokens)))) if tokens else frozenset({()})


def jaccard(a: frozenset[tuple[Hashable, ...]], b: frozenset[tuple[Hashable, ...]]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def diversity(group: Sequence[Sequence[Hashable]]) -> list[float]:
    """R_div of each answer of a group: 0.5 * entropy + 0.5 * (1 - mean 4-gram Jaccard to the others), in [0, 1].

    `group` holds the tokens of all answers to one prompt; an answer without others differs from nothing, so its
    second half is 0.
    """
    sets = [shingles(tokens) for tokens in group]
    similarity = [0.0] * len(group)
    for i, first in enumerate(sets):
        for j in range(i):
            value = jaccard(first, sets[j])
            similarity[i] += value
            similarity[j] += value
    others = len(group) - 1
    return [
        0.5 * normalised_entropy(tokens) + (0.5 * (1 - similar / others) if others else 0.0)
        for tokens, similar in zip(group, similarity, strict=True)
    ]

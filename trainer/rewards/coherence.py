"""R_conc: do neighbouring sentences belong together, without repeating each other?"""

import re
from collections.abc import Hashable, Sequence
from itertools import pairwise

RISE, FALL = 0.1, 0.6  # the middle band of overlap that scores 1
_TAG = re.compile(r"</?think>")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
# A Chinese or Japanese character is a word; elsewhere a run of letters and digits.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def sentences(text: str) -> list[str]:
    """Sentences that hold at least one word; the tags of the working are borders, not words."""
    return [part for part in _SENTENCE_END.split(_TAG.sub("\n", text)) if words(part)]


def ngrams(tokens: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


def overlap(first: str, second: str) -> float:
    """Jaccard similarity of the sets of 1- and 2-grams of words: 0 nothing shared, 1 the same."""
    a, b = ({*ngrams(words(part), 1), *ngrams(words(part), 2)} for part in (first, second))
    return len(a & b) / len(a | b) if a | b else 0.0


def band(share: float) -> float:
    """0 for no overlap, rising to 1 at RISE, 1 up to FALL, falling to 0 for verbatim repetition."""
    return min(1.0, share / RISE, (1 - share) / (1 - FALL))


def repeated_share(tokens: Sequence[Hashable], n: int = 4) -> float:
    """Share of the n-grams that occurred before in the same text; 0 for a text shorter than n."""
    grams = ngrams(tokens, n)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def coherence(completion: str) -> float:
    """R_conc = mean over neighbouring sentences of band(overlap) * (1 - share of repeated word 4-grams), in [0, 1].

    The whole completion counts, working included. A text with no neighbouring sentences (one sentence, or nothing)
    shows no coherence and scores 0; so a bare answer earns nothing here.
    """
    parts = sentences(completion)
    if len(parts) < 2:
        return 0.0
    mean = sum(band(overlap(a, b)) for a, b in pairwise(parts)) / (len(parts) - 1)
    return mean * (1 - repeated_share(words(completion)))

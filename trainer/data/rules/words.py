"""How many words a text has, and how much its characters carry."""

import numpy as np

from trainer.data.rules.document import Document
from trainer.data.words import code_points, find_words


class TooFewWords:
    name = "too few words"

    def __init__(self, least: int) -> None:
        self.least = least

    def apply(self, document: Document) -> Document | None:
        return document if document.words.count >= self.least else None


class LowEntropy:
    """Drops text whose characters carry little: H = -sum p log2 p over the characters' frequencies."""

    name = "low character entropy"

    def __init__(self, least_bits: float) -> None:
        self.least_bits = least_bits

    def apply(self, document: Document) -> Document | None:
        return document if character_entropy(document.text) >= self.least_bits else None


def count_words(text: str) -> int:
    return find_words(text).count


def character_entropy(text: str) -> float:
    """Bits per character of the text's own character distribution; 0 for an empty text."""
    codes = code_points(text)
    counts = np.bincount(codes) if codes.dtype == np.uint8 else np.unique(codes, return_counts=True)[1]
    shares = counts[counts > 0] / len(text)
    return float(-(shares @ np.log2(shares)))

"""Whether a text reads like prose, by the heuristics of Gopher (Rae et al. 2021, arXiv:2112.11446, section A.1.1)."""

import re

from trainer.data.rules.document import Document

_SYMBOL = re.compile(r"#|\.\.\.|…")
_BULLETS = ("•", "-", "*", "‣", "●", "■", "–")
_ELLIPSES = ("...", "…")
_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_WITHOUT_SPACES = frozenset({"zh", "ja", "th", "lo", "km", "my", "yue", "wuu"})


class NotProse:
    """Drops prose with too many symbols, bullets or lines that break off; where words are set apart also with words
    that are too short or too long or hold no letter; and English without stop words. Code and science pass."""

    name = "not prose"

    def apply(self, document: Document) -> Document | None:
        if document.record.domain in ("code", "science"):
            return document
        return document if reads_like_prose(document.text, document.lines, document.record.language) else None


def reads_like_prose(text: str, lines: list[str], language: str) -> bool:
    """Language as ISO 639-1; of an empty one neither words nor stop words are judged."""
    words = text.split()
    if len(_SYMBOL.findall(text)) > 0.1 * len(words):
        return False
    if sum(line.startswith(_BULLETS) for line in lines) > 0.9 * len(lines):
        return False
    if sum(line.endswith(_ELLIPSES) for line in lines) > 0.3 * len(lines):
        return False
    if language and language not in _WITHOUT_SPACES:
        characters = sum(map(len, words))
        with_letter = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words)
        if not 3 * len(words) <= characters <= 10 * len(words) or with_letter < 0.8 * len(words):
            return False
    return language != "en" or len(_STOP_WORDS.intersection(map(str.lower, words))) >= 2

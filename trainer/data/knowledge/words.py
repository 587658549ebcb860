"""What is searched by and what is found: terms of a text, and the passages it is cut into."""

import re
import unicodedata
from collections.abc import Iterator

from bm25s.stopwords import STOPWORDS_EN

PASSAGE_BYTES = 1_200  # of UTF-8: about 200 English words; a Chinese passage has fewer characters, which say more each
STOP_WORDS = frozenset(STOPWORDS_EN) | {"been", "from", "has", "have", "he", "her", "his", "its", "she", "so", "were"}
_ASCII_WORD = re.compile(r"[a-z0-9]+")
# Scripts that set no space between words: Chinese and Japanese, Thai, Lao, Burmese, Khmer.
_UNSPACED = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\u31f0-\u31ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
# Vowel signs and accents belong to the word they stand in, though Unicode calls them no letters.
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(rf"(?P<run>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])(?:[^\W_]|[{_MARKS}]))+")
_BORDERS = tuple(re.compile(pattern) for pattern in (r"\n[ \t]*\n", r"\n", r"[.!?] |[。！？]", r"\s"))


def terms(text: str) -> list[str]:
    """Words in lower case without English stop words; of scripts without spaces, each character and each pair."""
    if text.isascii():
        return [word for word in _ASCII_WORD.findall(text.lower()) if word not in STOP_WORDS]
    found: list[str] = []
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text).casefold()):
        run = match["run"]
        if run is None:
            found += [match[0]] if match[0] not in STOP_WORDS else []
        else:
            found += [part for at in range(len(run)) for part in (run[at], run[at : at + 2])][:-1]
    return found


def passages(text: str, longest: int = PASSAGE_BYTES) -> Iterator[tuple[int, str]]:
    """The text in pieces, each with the character it starts at; only white space is left out.

    A piece ends at the last paragraph's end in the second half of the longest there may be, else at a line's, a
    sentence's or a word's, else anywhere.

    Args:
        longest: bytes of UTF-8 in a piece.
    """
    start = 0
    while start < len(text):
        window = text[start : start + longest]
        if not window.isascii():
            window = window.encode()[:longest].decode(errors="ignore")
        length = len(window) if start + len(window) == len(text) else _cut(window)
        piece = window[:length]
        if stripped := piece.strip():
            yield start + len(piece) - len(piece.lstrip()), stripped
        start += length


def _cut(window: str) -> int:
    half = len(window) // 2
    for border in _BORDERS:
        ends = [found.end() for found in border.finditer(window, half)]
        if ends:
            return ends[-1]
    return len(window)

"""Words of a text in any script, as arrays: where each begins, how long it is, and a hash of it.

Where scripts set words apart, a word is a run of letters, digits and their marks. A Chinese or Japanese character is a
word of its own. Thai, Lao, Khmer and Burmese run their words together and only a dictionary could part them: there
each letter with its marks is a unit that runs of words are made of, and words are counted by their mean length.

Legend: C characters, W words.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.data.hashing import Hashes, mix

Codes = NDArray[np.uint8] | NDArray[np.uint32]
Places = NDArray[np.int64]

# What a character does: it parts words, is part of one, is one, begins a unit of a script without spaces, or goes on
# with the unit before it.
_SEPARATOR, _LETTER, _WORD, _UNIT, _UNIT_MARK = range(5)
_WORD_RANGES = (
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x3FFFF),
)  # fmt: skip
_UNIT_RANGES = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0xAA60, 0xAA7F))  # Thai, Lao, Burmese, Khmer
# Units a word has on average: 3.7 in Thai articles as a dictionary parts them, 3.2 in Khmer, 4.3 in Lao ones.
_UNITS_A_WORD = 3.7
_TABLE_SIZE = 0x40000  # characters beyond are tags and private use: no letters
_POWERS = 4096  # letters beyond so many in one word take the same powers again


@dataclass(frozen=True)
class Words:
    """The words of a text in lower case, in order: where they begin, their characters and hashes, [W] each."""

    starts: Places
    lengths: Places
    hashes: Hashes
    units: int  # how many of them are no words but units of a script without spaces

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def count(self) -> int:
        return len(self.lengths) - self.units + round(self.units / _UNITS_A_WORD)

    @cached_property
    def offsets(self) -> Places:
        """Characters of the words before each and of all, [W + 1]."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    @property
    def characters(self) -> int:
        return int(self.offsets[-1])


def code_points(text: str) -> Codes:
    """The characters [C] as numbers, halves of surrogate pairs too."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def find_words(text: str) -> Words:
    codes_C = code_points(text.lower())
    kinds_C = _kinds()[codes_C if codes_C.dtype == np.uint8 else np.minimum(codes_C, _TABLE_SIZE - 1)]
    before_C = np.empty_like(kinds_C)
    before_C[:1] = _SEPARATOR
    before_C[1:] = kinds_C[:-1]
    begins_C = (kinds_C != before_C) & (kinds_C != _SEPARATOR)
    if kinds_C.max(initial=0) > _LETTER:
        begins_C |= (kinds_C == _WORD) | (kinds_C == _UNIT)
        begins_C &= (kinds_C != _UNIT_MARK) | (before_C < _UNIT)
    letters = np.flatnonzero(kinds_C)
    starts_W = np.flatnonzero(begins_C[letters])
    lengths_W = np.diff(starts_W, append=len(letters))
    units = int(np.count_nonzero(kinds_C[letters[starts_W]] >= _UNIT))
    return Words(letters[starts_W], lengths_W, _hashes(codes_C[letters], starts_W, lengths_W), units)


def _hashes(codes_C: Codes, starts_W: Places, lengths_W: Places) -> Hashes:
    """A polynomial in an odd number over 2^64 for each word, mixed: sum of code * base^place."""
    if len(starts_W) == 0:
        return np.zeros(0, np.uint64)
    places_C = np.arange(len(codes_C)) - np.repeat(starts_W, lengths_W)
    terms_C = _powers()[places_C & (_POWERS - 1)]
    terms_C *= codes_C
    hashes_W: Hashes = np.add.reduceat(terms_C, starts_W)
    return mix(hashes_W + lengths_W.astype(np.uint64))


@cache
def _powers() -> Hashes:
    base = np.full(_POWERS, 0xA0761D6478BD642F, np.uint64)
    return np.multiply.accumulate(base)


@cache
def _kinds() -> NDArray[np.uint8]:
    """What each character does, by its number: letters, digits and marks by their Unicode category."""
    kinds = np.zeros(_TABLE_SIZE, np.uint8)
    for code in range(_TABLE_SIZE):
        kinds[code] = _LETTER if unicodedata.category(chr(code))[0] in "LMN" else _SEPARATOR
    kinds[0xFE00:0xFE10] = _SEPARATOR  # they choose the look of an emoji before them
    for first, last in _WORD_RANGES:
        kinds[first : last + 1] = np.where(kinds[first : last + 1] == _LETTER, _WORD, _SEPARATOR)
    for first, last in _UNIT_RANGES:
        for code in range(first, last + 1):
            if kinds[code] == _LETTER:
                kinds[code] = _UNIT_MARK if unicodedata.category(chr(code))[0] == "M" else _UNIT
    return kinds

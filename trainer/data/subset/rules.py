"""Rules applied to documents."""

import re
from collections.abc import Iterator
from functools import lru_cache

from trainer.spec import Record, SubsetRules

_WORD = re.compile(r"\w+")


class RulePicker:
    def __init__(self, rules: SubsetRules) -> None:
        self._rules = rules
        single = [keyword for keyword in rules.keywords if _WORD.fullmatch(keyword.rstrip("*")) and keyword.isascii()]
        phrases = [_phrase(keyword) for keyword in rules.keywords if keyword not in single]
        self._exact = {keyword.casefold() for keyword in single if not keyword.endswith("*")}
        self._stems = tuple(keyword[:-1].casefold() for keyword in single if keyword.endswith("*"))
        searched = [*phrases, *(f"(?:{pattern})" for pattern in rules.patterns)]
        self._searched = re.compile("|".join(searched), re.IGNORECASE) if searched else None
        self._keyword = lru_cache(maxsize=2**16)(self._keyword_of)  # a text has far fewer words than it is long

    def __call__(self, record: Record) -> bool:
        rules = self._rules
        named = (
            (rules.sources, record.source),
            (rules.licenses, str(record.meta.get("license", ""))),
            (rules.languages, record.language),
            (rules.domains, record.domain),
        )
        return all(not wanted or value in wanted for wanted, value in named) and self._says_enough(record.text)

    def _says_enough(self, text: str) -> bool:
        if not self._rules.keywords and not self._rules.patterns:
            return True
        words = _WORD.findall(text.casefold())
        hits = list(self._hits(text, words))
        enough = 1000 * len(hits) >= self._rules.min_per_1000_words * len(words)
        return enough and len(set(hits)) >= self._rules.min_distinct

    def _hits(self, text: str, words: list[str]) -> Iterator[str]:
        yield from (keyword for word in words if (keyword := self._keyword(word)))
        if self._searched is not None:
            yield from (match[0].casefold() for match in self._searched.finditer(text))

    def _keyword_of(self, word: str) -> str:
        """The keyword that a word is, or the stem it begins with; empty for any other word."""
        if word in self._exact:
            return word
        return next((stem for stem in self._stems if word.startswith(stem)), "")


def _phrase(keyword: str) -> str:
    """A phrase of whole words; a star stands for the rest of one. Words that no space parts, as in Chinese, are found
    anywhere."""
    pattern = r"\s+".join(re.escape(part).replace(r"\*", r"\w*") for part in keyword.split())
    return rf"(?<!\w){pattern}(?!\w)" if keyword.isascii() else pattern

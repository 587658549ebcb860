"""Language identification by the rule, on articles whose language is known: whole, and 60 characters of each."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.cleaning.bars import judged, share
from benchmarks.quality.data import rows
from trainer.data.rules.document import Document
from trainer.data.rules.language import Language
from trainer.spec import Record

CUT = 60  # characters
BAR = 0.98
UNSPACED = ("ja", "th", "zh")  # a space there is no border of words: between two may lie two characters or a page
UNCLEAR = "unclear"  # what the rule drops


def middle(text: str, spaced: bool) -> str:
    """60 characters from the middle; where spaces part words, without what the cut leaves of a word at either end."""
    start = max(0, (len(text) - CUT) // 2)
    cut = text[start : start + CUT]
    if not spaced or len(text) <= CUT:
        return cut
    if not text[start - 1].isspace():
        cut = cut.partition(" ")[2]
    if not text[start + CUT].isspace():
        cut = cut.rpartition(" ")[0]
    return cut.strip()


def named(text: str) -> str:
    document = Document(Record(id="", text=text, source="pack", domain="general", language=""))
    found = Language().apply(document)
    return UNCLEAR if found is None else found.record.language


def identified(texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Of pairs of a language and a text: the share named rightly, that of each language, and what was confused."""
    right, of, confused = Counter[str](), Counter[str](), Counter[str]()
    for language, text in texts:
        guess = named(text)
        of[language] += 1
        right[language] += guess == language
        confused[f"{language} as {guess}"] += guess != language
    by_language = {language: round(right[language] / count, 4) for language, count in sorted(of.items())}
    return share(right.total(), of.total()) | {
        "by language": by_language,
        "mistakes": {name: count for name, count in confused.most_common() if count},
    }


def measure(data: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures and bars."""
    whole = [(row["lang"], row["text"]) for row in rows(data, "text_multilingual")]
    cuts = [(language, middle(text, language not in UNSPACED)) for language, text in whole]
    ways = {"whole texts": whole, f"{CUT} characters": cuts}
    found = {way: identified(texts) for way, texts in ways.items()}
    bars = [judged(f"language of {way}", figures["share"], ">=", BAR) for way, figures in found.items()]
    return found, bars

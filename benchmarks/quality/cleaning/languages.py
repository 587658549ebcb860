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
UNCLEAR = "unclear"  # what the rule drops


def middle(text: str, length: int = CUT) -> str:
    """So many characters from the middle or a few less: it begins and ends with a word where spaces part them."""
    if len(text) <= length:
        return text
    start = (len(text) - length) // 2
    cut = text[start : start + length]
    if not text[start - 1].isspace() and " " in cut:
        cut = cut[cut.index(" ") + 1 :]
    if not text[start + length].isspace() and " " in cut:
        cut = cut[: cut.rindex(" ")]
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
    ways = {"whole texts": whole, f"{CUT} characters": [(language, middle(text)) for language, text in whole]}
    found = {way: identified(texts) for way, texts in ways.items()}
    bars = [judged(f"language of {way}", figures["share"], ">=", BAR) for way, figures in found.items()]
    return found, bars

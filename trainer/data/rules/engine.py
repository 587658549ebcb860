"""Applies rules in order and keeps account of what each dropped."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from trainer.data.rules.document import Document, Rule
from trainer.data.rules.personal_data import PersonalData
from trainer.spec import Record

_EXAMPLE_CHARACTERS = 200
_KEPT_EXAMPLES = 3


class RuleEngine:
    """Counts each drop under the first rule that says no, with a few examples drawn evenly from all."""

    def __init__(self, rules: Sequence[Rule], seed: int) -> None:
        self.rules = rules
        self.read = self.kept = 0
        self.dropped: dict[str, int] = {rule.name: 0 for rule in rules}
        self.examples: dict[str, list[dict[str, str]]] = {rule.name: [] for rule in rules}
        self._rng = Random(seed)

    def apply(self, record: Record) -> Record | None:
        """The record as the rules leave it; None when one drops it."""
        document = self.examine(Document(record))
        return None if document is None else document.record

    def examine(self, document: Document) -> Document | None:
        """The same for a document, whose words whoever goes on with it need not find again."""
        self.read += 1
        for rule in self.rules:
            result = rule.apply(document)
            if result is None:
                self._note(rule.name, document.record)
                return None
            document = result
        self.kept += 1
        return document

    @property
    def scrubbed(self) -> Counter[str]:
        """How many pieces of personal data of each kind were replaced."""
        return sum((rule.scrubbed for rule in self.rules if isinstance(rule, PersonalData)), Counter[str]())

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

"""A record on its way through the rules, and what several rules need to know of it, found once."""

from functools import cached_property
from typing import Any, Protocol

from trainer.data.words import Words, find_words
from trainer.spec import Record


class Document:
    """A record with its words. What is derived is found when first asked for and kept."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.text = record.text

    def changed(self, **fields: Any) -> "Document":
        """The document with other fields; words are found anew only where the text is another."""
        other = Document(self.record.model_copy(update=fields))
        if other.text is self.text and "words" in self.__dict__:
            other.__dict__["words"] = self.words
        return other

    @property
    def is_code(self) -> bool:
        return self.record.domain == "code"

    @cached_property
    def words(self) -> Words:
        return find_words(self.text)

    @cached_property
    def lines(self) -> list[str]:
        """Lines with something in them, without the white space around."""
        return [line for raw in self.text.splitlines() if (line := raw.strip())]


class Rule(Protocol):
    """The name is the reason that drops are counted under."""

    name: str

    def apply(self, document: Document) -> Document | None:
        """The document to go on with, as it is or changed; None drops it. Takes any text and never raises."""
        ...

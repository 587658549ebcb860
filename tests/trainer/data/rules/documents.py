"""Documents to try rules on."""

from trainer.data.rules import Document
from trainer.data.sources import record
from trainer.spec import Domain

ENGLISH = (
    "The committee met on the first Monday of every month to discuss how the harbour should be kept clear of ice, "
    "and although its members rarely agreed on anything else they always agreed that the work should begin before "
    "the first snow had fallen on the hills behind the town, because nobody wished to work in the dark of winter."
)
GERMAN = (
    "Der Ausschuss traf sich am ersten Montag jedes Monats, um zu besprechen, wie der Hafen eisfrei gehalten werden "
    "könne, und obwohl seine Mitglieder sich sonst selten einig waren, stimmten sie darin überein, dass die Arbeit "
    "beginnen müsse, bevor der erste Schnee auf die Hügel hinter der Stadt gefallen sei und niemand mehr im "
    "Dunkeln arbeiten wollte."
)


def document(text: str, domain: Domain = "general", language: str = "") -> Document:
    return Document(record(text, "test", domain, language))


def passed(result: Document | None) -> Document:
    assert result is not None
    return result

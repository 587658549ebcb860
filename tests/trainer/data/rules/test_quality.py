"""Text that reads like prose passes; lists, tables and teasers do not."""

import pytest

from tests.trainer.data.rules.documents import ENGLISH, GERMAN, document
from trainer.data.rules.quality import NotProse

RULE = NotProse()


@pytest.mark.parametrize(
    ("text", "language"), [(ENGLISH, "en"), (GERMAN, "de"), ("数据清洗是训练语言模型的第一步。" * 9, "zh"), ("", "")]
)
def test_prose_passes(text: str, language: str) -> None:
    assert RULE.apply(document(text, "general", language))


@pytest.mark.parametrize(
    "text",
    [
        "a I o " * 30 + "the of",
        "the of and " + "incomprehensibilities " * 30,
        "the of and " + "12 3 * 45 6789 " * 30 + "words",
        "the of and # # # " * 30,
        "\n".join(f"- the point of {ENGLISH[place : place + 30]}" for place in range(20)),
        "\n".join(f"the rest of {ENGLISH[place : place + 30]}..." for place in range(20)),
        "cheap flights hotels deals best price online booking compare " * 9,
    ],
)
def test_other_text_does_not(text: str) -> None:
    assert RULE.apply(document(text, "general", "en")) is None
    assert RULE.apply(document(text, "code", "en")), "code is no prose"
    assert RULE.apply(document(text, "science", "en"))

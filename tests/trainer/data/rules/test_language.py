"""Languages are named without a network, on short texts too."""

import socket

import pytest

from tests.trainer.data.rules.documents import ENGLISH, GERMAN, document, passed
from trainer.data.rules.language import Language, UnwantedLanguage, detect, prose_of


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("language identification went to the network")

    monkeypatch.setattr(socket.socket, "connect", connect)


def test_language_is_named_and_foreign_prose_is_multilingual() -> None:
    rule = Language()
    english, german = passed(rule.apply(document(ENGLISH))).record, passed(rule.apply(document(GERMAN))).record
    assert (english.language, english.domain) == ("en", "general")
    assert (german.language, german.domain) == ("de", "multilingual")
    science = passed(rule.apply(document(GERMAN + r" $\frac{a}{b}$", "science"))).record
    assert (science.language, science.domain) == ("de", "science")
    assert passed(rule.apply(document("x = 1", "code", "python"))).record.language == "python"
    assert passed(rule.apply(document(ENGLISH, "general", "sv"))).record.domain == "multilingual"


def test_what_has_no_words_has_no_language() -> None:
    assert Language().apply(document(r"12 + 30 = 42, $\alpha_1$; " * 20)) is None
    assert detect("") == ("", 0.0)
    assert prose_of("a\ud800b\x00 $x$ c_1, :math:`y` d!") == "a b c d"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Watu wengi walikusanyika sokoni asubuhi na mapema", "sw"),  # fastText by itself is unsure
        ("Bangunan itu runtuh setelah hujan deras semalaman", "id"),
        ("El puerto estuvo cerrado durante todo el invierno", "es"),
        ("यह पुस्तक पिछले साल लिखी गई थी", "hi"),  # its vowels are no letters to Unicode
        ("港口整个冬天都关闭了", "zh"),
        ("港は冬の間ずっと閉まっていました", "ja"),
    ],
)
def test_a_few_words_are_enough(text: str, language: str) -> None:
    found, probability = detect(text)
    assert found == language
    assert 0.3 < probability <= 1.001


def test_only_wanted_languages_stay() -> None:
    rule = UnwantedLanguage(("en",))
    assert rule.apply(document(ENGLISH, "general", "en"))
    assert rule.apply(document(GERMAN, "multilingual", "de")) is None
    assert rule.apply(document("x = 1", "code", "python"))

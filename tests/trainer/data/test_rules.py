"""Each rule drops what it is for and lets the rest pass; the engine keeps account."""

import socket
from itertools import pairwise

import pytest

from trainer.data.dedup import ExactDuplicate, NearDuplicate, shingles
from trainer.data.rules import (
    DuplicateLines,
    Language,
    LowEntropy,
    PersonalData,
    RuleEngine,
    TooFewWords,
    character_entropy,
    count_words,
    default_rules,
)
from trainer.data.sources import record
from trainer.spec import Domain, Record, RuleSettings

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


def text_record(text: str, domain: Domain = "general", language: str = "") -> Record:
    return record(text, "test", domain, language)


def passed(rule_result: Record | None) -> Record:
    assert rule_result is not None
    return rule_result


def test_words_are_counted_in_every_script() -> None:
    assert count_words("two words") == 2
    assert count_words("数据清洗") == 4
    assert count_words("snake_case and 数据") == 5
    rule = TooFewWords(50)
    assert rule.apply(text_record("word " * 49)) is None
    assert rule.apply(text_record("word " * 50))
    assert rule.apply(text_record("字" * 50))


def test_entropy_is_that_of_the_characters() -> None:
    assert character_entropy("") == 0
    assert character_entropy("aaaa") == 0
    assert character_entropy("abcd" * 9) == pytest.approx(2)
    rule = LowEntropy(3.5)
    assert rule.apply(text_record("abcd efgh" * 50)) is None
    assert rule.apply(text_record(ENGLISH))


def test_repeated_lines_drop_prose_but_not_the_short_lines_of_code() -> None:
    rule = DuplicateLines(0.3)
    assert rule.apply(text_record("same line\n" * 4 + "another\n" * 1)) is None
    assert rule.apply(text_record("a\nb\nc\nd\nd\n"))
    code = "".join(f"if value_{i} is not None:\n    pass\nelse:\n    return\n" for i in range(9))
    assert rule.apply(text_record(code)) is None
    assert rule.apply(text_record(code, "code"))
    assert rule.apply(text_record("    raise ValueError('no such thing')\n" * 9, "code")) is None


def test_language_is_named_and_foreign_prose_is_multilingual(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise AssertionError("language identification went to the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    rule = Language()
    english, german = passed(rule.apply(text_record(ENGLISH))), passed(rule.apply(text_record(GERMAN)))
    assert (english.language, english.domain) == ("en", "general")
    assert (german.language, german.domain) == ("de", "multilingual")
    science = passed(rule.apply(text_record(GERMAN + r" $\frac{a}{b}$", "science")))
    assert (science.language, science.domain) == ("de", "science")
    assert passed(rule.apply(text_record("x = 1", "code", "python"))).language == "python"
    assert passed(rule.apply(text_record(ENGLISH, "general", "sv"))).domain == "multilingual"
    assert rule.apply(text_record(r"12 + 30 = 42, $\alpha_1$; " * 20)) is None


def test_personal_data_is_replaced_and_counted() -> None:
    rule = PersonalData()
    said = "Write to jane.doe+x@mail.example.org or call +49 30 1234567 or (555) 123-4567 from 8.8.8.8."
    clean = passed(rule.apply(text_record(said))).text
    assert clean == "Write to [email] or call [phone] or [phone] from [ip]."
    assert rule.scrubbed == {"email": 1, "phone": 2, "ip": 1}
    for harmless in (
        "127.0.0.1 and 192.168.1.7",
        "version 1.2.3",
        "a @ b",
        "999.999.1.1",
        "1.5 2.5 3.75",
        "2020-01-15",
    ):
        assert passed(rule.apply(text_record(harmless))).text == harmless
    table = "data = [555 - 123 - 4567]  # 555-123-4567"
    assert passed(rule.apply(text_record(table, "code"))).text == table


def test_exact_duplicates_differ_in_white_space_at_most() -> None:
    rule = ExactDuplicate()
    assert rule.apply(text_record(ENGLISH))
    assert rule.apply(text_record(ENGLISH.replace(" ", "\n  "))) is None
    assert rule.apply(text_record(ENGLISH + " More."))


@pytest.mark.parametrize("text", [ENGLISH * 3, "数据清洗是训练语言模型的第一步，它决定了模型能学到什么。" * 9])
def test_near_duplicates_are_found_in_every_script(text: str) -> None:
    rule = NearDuplicate(0.8)
    assert rule.apply(text_record(text))
    assert rule.apply(text_record(text + " End.")) is None
    assert rule.apply(text_record(GERMAN))


def test_shingles_are_runs_of_five_words() -> None:
    assert shingles("a b c d e f") == ["a b c d e", "b c d e f"]
    assert shingles("a b") == ["a b"]
    assert shingles("") == [""]
    assert len(shingles("字" * 60)) == 56


def test_the_engine_counts_each_drop_once_under_the_first_rule_that_says_no() -> None:
    engine = RuleEngine(default_rules(RuleSettings()), seed=0)
    texts = ["short", "short", "a b " * 60, ENGLISH, ENGLISH, ENGLISH.replace("harbour", "port"), GERMAN]
    kept = [text for text in texts if engine.apply(text_record(text)) is not None]
    assert engine.read == len(texts) == engine.kept + sum(engine.dropped.values())
    assert kept[0] == ENGLISH
    assert kept[-1] == GERMAN
    assert engine.dropped["too few words"] == 2
    assert engine.dropped["low character entropy"] == 1
    assert engine.dropped["exact duplicate"] == 1
    assert "too few words: 2" in engine.summary()


def test_examples_are_a_few_drawn_from_all_and_the_same_for_the_same_seed() -> None:
    def examples(seed: int) -> list[str]:
        engine = RuleEngine([TooFewWords(50)], seed)
        for number in range(500):
            engine.apply(text_record(f"text {number}"))
        return [example["text"] for example in engine.examples["too few words"]]

    drawn = [examples(seed) for seed in range(8)]
    assert examples(0) == drawn[0]
    assert {len(texts) for texts in drawn} == {3}
    assert max(int(text.split()[1]) for texts in drawn for text in texts) > 250
    assert any(first != second for first, second in pairwise(drawn))

"""Words as arrays against words found one character after the other."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.words import code_points, find_words

# Letters, marks, digits, what parts words, scripts with and without spaces, half a surrogate pair, beyond 16 bits.
ALPHABET = "abZé\u0301ß9_ .\n\x00'İКй한कि字かカ々กิแ๑ខ្មລາວ\u0e31\ufe0f\u200d❤\ud800𠮷😀𐀀\U000e0100"
texts = st.text(alphabet=ALPHABET, max_size=60) | st.text(st.characters(), max_size=30)


def kind(character: str) -> str:
    name, category = unicodedata.name(character, ""), unicodedata.category(character)[0]
    if category not in "LMN" or "VARIATION SELECTOR" in name:
        return "separator"
    if name.startswith(("THAI", "LAO", "KHMER", "MYANMAR")):
        return "mark of a unit" if category == "M" else "unit"
    if name.startswith(("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "HALFWIDTH KATAKANA", "HANGZHOU")):
        return "word"
    return "letter"


def plain_words(text: str) -> list[str]:
    words: list[str] = []
    before = "separator"
    for character in text.lower():
        now = kind(character)
        goes_on = now == before == "letter" or (now == "mark of a unit" and before in ("unit", "mark of a unit"))
        if now != "separator":
            words[len(words) if not goes_on else -1 :] = [(words[-1] if goes_on else "") + character]
        before = now
    return words


@settings(deadline=None)  # the first call makes tables
@given(texts.filter(lambda text: all(ord(character) < 0x20000 or character in ALPHABET for character in text)))
def test_words_are_those_found_one_character_after_the_other(text: str) -> None:
    found, expected = find_words(text), plain_words(text)
    folded = text.lower()
    spans = zip(found.starts.tolist(), found.lengths.tolist(), strict=True)
    assert [folded[start : start + length] for start, length in spans] == expected
    assert found.characters == sum(map(len, expected))
    assert found.units == sum(kind(word[0]) in ("unit", "mark of a unit") for word in expected)
    same = dict(zip(expected, found.hashes.tolist(), strict=True))
    assert [same[word] for word in expected] == found.hashes.tolist(), "equal words have equal hashes"
    assert len(set(same.values())) == len(same), "and others have others"


def test_hashes_are_those_of_every_other_process() -> None:
    assert find_words("Word 字 ก").hashes.tolist() == find_words("word\n字ก").hashes.tolist()
    assert find_words("word").hashes.tolist() == [9213177445864722296]


def test_long_words_differ_in_any_letter() -> None:
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, 10_000)
    words = [letters]
    for place in (0, 1, 4095, 9_999):
        words.append(letters.copy())
        words[-1][place] ^= 1
    hashes = find_words(" ".join("".join(map(chr, word)) for word in words)).hashes
    assert len(set(hashes.tolist())) == len(words)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("two words", 2),
        ("数据清洗", 4),
        ("snake_case and 数据", 5),
        ("हिन्दी में", 2),
        ("한국어 문장", 2),
        ("", 0),
        (" \x00\n", 0),
    ],
)
def test_words_are_counted_in_every_script(text: str, count: int) -> None:
    assert find_words(text).count == count


@pytest.mark.parametrize(
    ("text", "words"),  # as a dictionary parts them
    [
        ("นักวิทยาศาสตร์ค้นพบดาวเคราะห์ดวงใหม่ที่อยู่ห่างจากโลกหลายล้านกิโลเมตร", 15),
        ("ភ្នំពេញគឺជារាជធានីនៃព្រះរាជាណាចក្រកម្ពុជានិងជាទីក្រុងដែលមានប្រជាជនច្រើនជាងគេបំផុតនៅក្នុងប្រទេស", 18),
        ("ເມືອງນີ້ຕັ້ງຢູ່ແຄມແມ່ນ້ຳຂອງໃກ້ກັບຊາຍແດນປະເທດໄທ", 10),
    ],
)
def test_words_that_run_together_are_counted_about_right(text: str, words: int) -> None:
    assert abs(find_words(text).count - words) <= 0.25 * words


@settings(deadline=None)  # the first call makes tables
@given(texts)
def test_code_points_are_those_of_the_text(text: str) -> None:
    assert code_points(text).tolist() == list(map(ord, text))

"""What says who somebody is goes, and what only looks like it stays."""

import pytest

from tests.trainer.data.rules.documents import document, passed
from trainer.data.rules.personal_data import PersonalData, is_card_number, is_iban


def test_personal_data_is_replaced_and_counted() -> None:
    rule = PersonalData()
    said = (
        "Write to jane.doe+x@mail.example.org or call +49 30 1234567 or (555) 123-4567 from 8.8.8.8 or "
        "2a00:1450:4001:81b::200e. Pay from DE89 3704 0044 0532 0130 00, GB82WEST12345698765432 or 4111 1111 1111 1111."
    )
    assert passed(rule.apply(document(said))).text == (
        "Write to [email] or call [phone] or [phone] from [ip] or [ip]. Pay from [iban], [iban] or [card]."
    )
    assert rule.scrubbed == {"email": 1, "phone": 2, "ip": 2, "iban": 2, "card": 1}


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1 and 192.168.1.7", "version 1.2.3", "a @ b", "999.999.1.1", "1.5 2.5 3.75", "2020-01-15",
        "2001:db8::1 is for documentation, 12:30:45 is a time", "items[2::3]", "4111 1111 1111 1112",
        "1234567890123456", "DE89 3704 0044 0532 0130 03", "AB12CD34EF56AB78CD90", "@name and https://example.org/a",
        "1998 2000 2002 2004",
    ],
)  # fmt: skip
def test_other_numbers_stay(text: str) -> None:
    rule = PersonalData()
    untouched = document(text)
    assert rule.apply(untouched) is untouched
    assert not rule.scrubbed.total()


def test_code_keeps_its_numbers_but_no_addresses() -> None:
    table = "data = [555 - 123 - 4567]  # 555-123-4567, 4111111111111111, "
    rule = PersonalData(hide_names=True)
    assert passed(rule.apply(document(table + "jane@example.org", "code"))).text == table + "[email]"
    assert passed(rule.apply(document("@property", "code"))).text == "@property"


def test_names_in_chats_are_replaced_where_wanted() -> None:
    said = "@jane_doe look at https://example.org/@jane?x=1 and jane@example.org"
    assert passed(PersonalData(hide_names=True).apply(document(said))).text == "[user] look at [link] and [email]"


@pytest.mark.parametrize("number", ["4111111111111111", "5500 0000 0000 0004", "340000-000000-009"])
def test_a_card_number_with_any_digit_changed_is_none(number: str) -> None:
    assert is_card_number(number)
    for place, digit in enumerate(number):
        if digit.isdigit():
            other = number[:place] + str((int(digit) + 1) % 10) + number[place + 1 :]
            assert not is_card_number(other)


def test_ibans_have_their_country_s_length_and_checksum() -> None:
    assert is_iban("FR14 2004 1010 0505 0001 3M02 606")
    assert is_iban("NO9386011117947")
    assert not is_iban("NO9386011117948")
    assert not is_iban("NO93860111179470")
    assert not is_iban("ZZ9386011117947")

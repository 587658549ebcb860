"""Personal data is replaced by what it was, such as [email]; nothing is dropped for it."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

from trainer.data.rules.document import Document

_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")  # those given to somebody
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,4}\d{2,4}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"
)
_CARD = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){8,14}\d(?![\w-]|\.\d)")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?!\w)")
_LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"]+")
_HANDLE = re.compile(r"(?<![\w@/.])@\w{2,}")

# What a text has that holds one of them, in a form that is quick to look for: most begin with one certain character.
_HINTS = {
    _EMAIL: re.compile(r"@(?<=[\w.+-]@)[A-Za-z0-9-]"),
    _IPV4: re.compile(r"\.(?<=\d\.)\d{1,3}\.\d"),
    _IPV6: re.compile(r":(?<=[23][0-9A-Fa-f]{3}:)[0-9A-Fa-f:]"),
    _PHONE: re.compile(r"\+\d|\d{4}(?<=\d{3}[ .-]\d{4})"),
    _CARD: re.compile(r"\d{4}"),
    _IBAN: re.compile(r"[A-Z][A-Z]\d\d"),
    _LINK: re.compile(r"://|www\."),
    _HANDLE: re.compile(r"@"),
}

# Characters of an IBAN of each country that has them (ISO 13616).
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


class PersonalData:
    """Replaces e-mail addresses, telephone and card numbers, IBANs and public IP addresses. Code keeps its numbers:
    of card and telephone numbers it has too many that are none.

    Args:
        hide_names: replace links and @names too, as chats and posts have them; not in code.
    """

    name = "personal data"

    def __init__(self, hide_names: bool = False) -> None:
        self.hide_names = hide_names
        self.scrubbed: Counter[str] = Counter()

    def apply(self, document: Document) -> Document | None:
        text, has_names = document.text, self.hide_names and not document.is_code
        if has_names:
            text = self._replaced("link", _LINK, text)
        text = self._replaced("email", _EMAIL, text)
        text = self._replaced("iban", _IBAN, text, is_iban)
        text = self._replaced("ip", _IPV4, text, is_public_address)
        text = self._replaced("ip", _IPV6, text, is_public_address)
        if not document.is_code:
            text = self._replaced("card", _CARD, text, is_card_number)
            text = self._replaced("phone", _PHONE, text)
        if has_names:
            text = self._replaced("user", _HANDLE, text)
        return document if text == document.text else document.changed(text=text)

    def _replaced(
        self, kind: str, pattern: re.Pattern[str], text: str, is_one: Callable[[str], bool] | None = None
    ) -> str:
        if not _HINTS[pattern].search(text):
            return text

        def hide(found: re.Match[str]) -> str:
            if is_one is not None and not is_one(found[0]):
                return found[0]
            self.scrubbed[kind] += 1
            return f"[{kind}]"

        return pattern.sub(hide, text)


def is_public_address(text: str) -> bool:
    """Addresses of private networks and of documentation say nothing of anybody."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def is_card_number(text: str) -> bool:
    """Thirteen to nineteen digits with the right check digit (Luhn's formula, ISO/IEC 7812)."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """The length of its country, and 1 as remainder by 97 of all its characters as numbers (ISO 13616)."""
    code = text.replace(" ", "")
    if len(code) != _IBAN_LENGTHS.get(code[:2]):
        return False
    return int("".join(str(int(character, 36)) for character in code[4:] + code[:4])) % 97 == 1

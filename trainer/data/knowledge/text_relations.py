"""Headings, links and definitions ("X is a Y") of prose in Markdown, HTML, reStructuredText or none of them.

Definitions are read narrowly: a subject that begins its sentence and is short, no pronoun, then "is a" and its like,
then a noun phrase that ends before the next preposition, clause or mark. What does not fit says nothing.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator

from trainer.data.knowledge.triples import EVIDENCE, Found, Relation

_HEADING = re.compile(
    r"^(?P<marks>\#{1,6})[ \t]+(?P<markdown>[^\n]{1,200}?)[ \t#]*$"
    r"|^(?P<line>[^\s=\-~^\"'`*+#][^\n]{0,200})\n(?P<rule>[=\-~^\"'`*+#])(?P=rule){2,200}[ \t]*$"
    r"|<h(?P<level>[1-6])\b[^>\n]{0,200}>(?P<html>[^<\n]{1,200})</h(?P=level)>",
    re.MULTILINE | re.IGNORECASE,
)
_RULES = "#*=-^\"~`'+"  # a reStructuredText file chooses the order of its rules itself; this is the usual one
_LINK = re.compile(
    r"(?<!!)\[(?P<text>[^\[\]\n]{1,200})\]"
    r"(?:\((?P<url>[^()\s]{1,500})(?:[ \t]+\"[^\"\n]{0,200}\")?\)|\[(?P<label>[^\[\]\n]{0,200})\])"
    r"|<a\b[^>\n]{0,300}?\bhref=[\"'](?P<href>[^\"'\n]{1,500})[\"'][^>\n]{0,300}>(?P<anchor>[^<\n]{1,200})</a>"
    r"|`(?P<name>[^`<\n]{1,200}?)\s*<(?P<target>[^>\s]{1,500})>`__?",
    re.IGNORECASE,
)
_TARGET = re.compile(r"^ {0,3}\[(?P<label>[^\[\]\n]{1,200})\]:[ \t]*(?P<url>\S{1,500})", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)

_WORD = r"[^\W\d_][\w'’\-]*"
# What ends a noun phrase, and what a noun phrase of a definition does not begin with ("a lot of", "a few").
_ENDS = (
    r"(?!(?:that|which|who|whose|where|when|while|in|on|at|for|with|to|by|from|as|and|or|but|than|used|into|because|if"
    r"|is|are|was|were|located|known|such|covered|characteri[sz]ed|based|born|made|called|found|within|without)\b)"
)
_VAGUE = r"(?!(?:few|little|bit|lot|lots|thousand|hundred|number|couple|great|part|result|matter|good|very|rather)\b)"
_NOUNS = rf"{_VAGUE}{_ENDS}{_WORD}(?: (?:of (?:an? |the )?)?{_ENDS}{_WORD}){{0,5}}"
_IS = re.compile(r" (?P<tense>is|are|was|were) (?:an? (?:kind|type|form|sort) of (?:an? )?|one of the |an? )")
_SUBJECT = re.compile(
    rf"(?:^|[.!?:][\"')\]]?\s|\n)\s*(?:(?P<article>The|An?) )?"
    rf"(?P<name>{_ENDS}{_WORD}(?: (?:of )?{_ENDS}{_WORD}){{0,4}})$"
)
_OBJECT = re.compile(rf"({_NOUNS})(?=[\s.,;:()!?]|$)")
_PRONOUNS_AND_SUCH = """
    it he she they we you i this that these those there here what which who whose one another each every such as
    if when while where since because although but and or so not no yes then thus hence all some any both either
    neither his her its their our your my also how why only however therefore moreover oh ay well now today of
    to for
"""
_NO_SUBJECT = frozenset(_PRONOUNS_AND_SUCH.split())
_NAME = r"[A-Z][\w'’\-]{1,40}"
_APPOSITION = re.compile(
    rf"(?<![\w,] )(?<!\w)({_NAME}(?: (?:of |the )?{_NAME}){{0,4}}), an? ({_NOUNS})"
    r"(?:, (?!(?:and|or|an?|the)\b)[a-z]|\.(?:\s|$))"
)
_CHINESE_IS = re.compile(
    r"(?:^|[。！？\n])\s*((?:(?![这那它他她我你其此也])[\u4e00-\u9fff·]){2,12})是(?:一种|一个|一位|一家|一座|一本|一部)([\u4e00-\u9fff]{2,20})[。，；]"
)
_BEFORE, _AFTER = 90, 120  # characters looked at around "is a"


def text_relations(text: str, title: str, language: str) -> list[Relation]:
    """Headings, links and definitions of one document; `title` is what its first headings hang on."""
    found, lines = Found(text), _Lines(text)
    prose = _CODE_BLOCK.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    _headings(prose, title, found, lines)
    _links(prose, found, lines)
    _define(prose, language, found, lines)
    return found.relations()


def definitions(text: str, language: str) -> list[Relation]:
    """Only what is defined, for text whose headings and links are in other marks."""
    found = Found(text)
    _define(text, language, found, _Lines(text))
    return found.relations()


def _define(text: str, language: str, found: Found, lines: "_Lines") -> None:
    read = {"en": _english, "zh": _chinese}.get(language)
    for place, subject, kind in read(text) if read is not None else ():
        evidence = " ".join(text[place : place + EVIDENCE].split())
        found.add(subject, "is a", kind, lines.number(place), evidence=evidence)


class _Lines:
    """Which line, from 1, a character stands in."""

    def __init__(self, text: str) -> None:
        self._ends = [found.start() for found in re.finditer("\n", text)]

    def number(self, place: int) -> int:
        return bisect_right(self._ends, place - 1) + 1


def _headings(text: str, title: str, found: Found, lines: _Lines) -> None:
    above: list[tuple[int, str]] = [(0, title)]
    for heading in _HEADING.finditer(text):
        name = _plain(heading["markdown"] or heading["line"] or heading["html"])
        level = len(heading["marks"] or "") or int(heading["level"] or 0) or 1 + _RULES.index(heading["rule"])
        while above[-1][0] >= level:
            above.pop()
        found.add(above[-1][1], "has section", name, lines.number(heading.start()))
        above.append((level, name))


def _links(text: str, found: Found, lines: _Lines) -> None:
    """What is linked, and where to; a Markdown reference whose label the document lacks stays unresolved."""
    targets = {target["label"].casefold(): target["url"] for target in _TARGET.finditer(text)} if "]:" in text else {}
    for link in _LINK.finditer(text):
        name = _plain(link["text"] or link["anchor"] or link["name"])
        url = link["url"] or link["href"] or link["target"]
        label = (link["label"] or link["text"] or "").casefold()
        place = lines.number(link.start())
        found.add(name, "links to", url or targets.get(label, label), place, resolved=bool(url) or label in targets)


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[*_`]", "", text).split())


def _english(text: str) -> Iterator[tuple[int, str, str]]:
    """Place, subject and kind of each definition."""
    for verb in _IS.finditer(text):
        subject = _SUBJECT.search(text, max(0, verb.start() - _BEFORE), verb.start())
        kind = _OBJECT.match(text, verb.end(), verb.end() + _AFTER)
        if subject is not None and kind is not None and _is_defined(subject["name"], subject["article"], verb["tense"]):
            yield subject.start("name"), subject["name"], kind[1]
    for match in _APPOSITION.finditer(text):
        if _is_name(match[1]):
            yield match.start(1), match[1], match[2]


def _chinese(text: str) -> Iterator[tuple[int, str, str]]:
    for match in _CHINESE_IS.finditer(text):
        yield match.start(1), match[1], match[2]


def _is_defined(name: str, article: str | None, tense: str) -> bool:
    """Proper names are, and what "A quark is a …" says; "the man was a …" only tells a story."""
    return _is_name(name) and (name[0].isupper() or (article in ("A", "An") and tense in ("is", "are")))


def _is_name(subject: str) -> bool:
    words = subject.casefold().split()
    return words[0] not in _NO_SUBJECT and words[-1] not in _NO_SUBJECT and len(subject) > 1

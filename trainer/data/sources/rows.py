"""What a row of a table says: its text, made of the fields a job names, and where it comes from."""

import re
from collections.abc import Mapping
from typing import Any

from trainer.data.conversations import ROLES, text_and_roles
from trainer.data.sources.base import Found, Skipped, domain_of, record
from trainer.job_settings import RowSettings
from trainer.spec import DOMAINS

_HOLE = re.compile(r"\{([^{}]+)\}")
# Who speaks and what, in the two usual shapes of a message.
_MESSAGE_KEYS = (("role", "content"), ("from", "value"))
_TAKEN_OVER = {"license": ("license", "licence"), "url": ("url",), "language": ("lang", "language")}


class RowReader:
    """Rows of one source as records.

    A text field is a column, a dotted path into it ("answer.0.text") or a template of such ("{question}\\n{answer}").
    Of several, a row's text is the first that the row can fill.
    """

    def __init__(self, source: str, settings: RowSettings) -> None:
        self.source = source
        self._fields = settings.text_fields
        self._id = settings.id_field

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that are looked at, for readers that can leave out the others."""
        paths = [path for field in self._fields for path in (_HOLE.findall(field) or [field])]
        taken_over = [name for names in _TAKEN_OVER.values() for name in names]
        return frozenset(path.split(".")[0] for path in [*paths, self._id, "domain", *taken_over])

    def read(self, row: Any, /, path: str, license: str = "", **place: int) -> Found:
        """The record of a row, or why there is none.

        Args:
            license: of the file, where the row names none.
            place: which row of the file it is.
        """
        where = ", ".join([path, *(f"{name} {number}" for name, number in place.items())])
        if not isinstance(row, Mapping):
            return Skipped("row is no JSON object", where)
        field, text = next(
            ((field, text) for field in self._fields if (text := fill(field, row)) is not None), ("", None)
        )
        if text is None:
            return Skipped("field missing", where, f"no text in {' or '.join(self._fields)}; there are {_names(row)}")
        domain = row["domain"] if row.get("domain") in DOMAINS else domain_of(text)
        taken = {meta: _first(row, names) for meta, names in _TAKEN_OVER.items()}
        meta: dict[str, Any] = {"path": path, **place}
        if (dialogue := _dialogue(lookup(row, field))) is not None:
            text, meta[ROLES] = dialogue
        if license := taken["license"] or license:
            meta["license"] = license
        if taken["url"]:
            meta["url"] = taken["url"]
        if (identity := as_text(lookup(row, self._id))) is not None:
            meta["id"] = identity
        return record(text, self.source, domain, taken["language"], **meta)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((value for name in names if isinstance(value := row.get(name), str)), "")


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, list(row)[:12])) or "none"


def fill(field: str, row: Mapping[str, Any]) -> str | None:
    """A field's text: the column's, or the template with every hole filled; None where one is missing."""
    holes = _HOLE.findall(field)
    if not holes:
        return as_text(lookup(row, field))
    texts = {hole: as_text(lookup(row, hole)) for hole in holes}
    if None in texts.values():
        return None
    return _HOLE.sub(lambda hole: str(texts[hole[1]]), field)


def lookup(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, whose parts are keys or places in a list; a key may hold dots itself."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def as_text(value: Any) -> str | None:
    """A value as text: numbers as written, lists line by line, lists of messages as a chat."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        return str(value["text"])
    if not isinstance(value, list) or not value:
        return None
    chat = [said for item in value if (said := _message(item)) is not None]
    if len(chat) == len(value):
        return "\n\n".join(chat)
    parts = [as_text(item) for item in value]
    return None if None in parts else "\n".join(map(str, parts))


def _dialogue(value: Any) -> tuple[str, list[str]] | None:
    """Text and roles of a list of messages whose roles are all known; other lists of messages are plain text."""
    if not isinstance(value, list):
        return None
    try:
        return text_and_roles(value)
    except ValueError:
        return None


def _message(item: Any) -> str | None:
    if not isinstance(item, Mapping):
        return None
    for who, what in _MESSAGE_KEYS:
        if isinstance(item.get(who), str) and isinstance(item.get(what), str):
            return f"{item[who]}: {item[what]}"
    return None

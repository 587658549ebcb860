"""The licence of code: what its header, its licence text or its source says, against those that are allowed."""

import re
from collections.abc import Iterable, Iterator

from trainer.data.rules.document import Document

_HEADER = 4_000  # characters in which a file says its licence
_SPDX = re.compile(r"SPDX-License-Identifier:[ \t]*([^\n]+)")
_CLOSERS = re.compile(r"(\*/|-->|['\"#]).*$")
_SAYS_SOMETHING = re.compile(r"licen[cs]e|permission|redistribution|unencumbered|rights", re.IGNORECASE)
# Words that only texts of a licence have, the narrower before the wider.
_PHRASES = (
    ("AGPL-3.0", r"GNU Affero General Public License"),
    ("LGPL", r"GNU (?:Lesser|Library) General Public License"),
    ("GPL", r"GNU General Public License"),
    ("MPL-2.0", r"Mozilla Public License"),
    ("EPL-2.0", r"Eclipse Public License"),
    ("Apache-2.0", r"Apache License,?\s+Version 2\.0"),
    ("BSL-1.0", r"Boost Software License"),
    ("PSF-2.0", r"Python Software Foundation License|Licensed to PSF under a Contributor Agreement"),
    ("BSD-3-Clause", r"Redistribution and use in source and binary forms[\s\S]{0,1500}?(?:Neither the name|endorse)"),
    ("BSD-2-Clause", r"Redistribution and use in source and binary forms"),
    ("MIT", r"Permission is hereby granted, free of charge, to any person"),
    ("ISC", r"Permission to use, copy, modify, and(?:/or)? distribute this software for any"),
    ("Unlicense", r"This is free and unencumbered software released into the public domain"),
    ("Proprietary", r"All rights reserved\.?\s+(?:Proprietary|Confidential|Unauthorized)"),
)
_TEXTS = [(name, re.compile(phrase.replace(" ", r"[\s#*/;]+"), re.IGNORECASE)) for name, phrase in _PHRASES]
_PARTS = re.compile(r"[()]|[^\s()]+")


class CodeLicence:
    """Drops code under a licence that is not allowed; code that states none stays. What is found goes into `meta`.

    Args:
        allowed: SPDX identifiers. A family without a version, such as GPL, stands for what no version is known of.
    """

    name = "licence not allowed"

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = frozenset(name.lower() for name in allowed)

    def apply(self, document: Document) -> Document | None:
        if not document.is_code:
            return document
        stated = document.record.meta.get("license")
        licence = str(stated) if stated else find_licence(document.text)
        if licence is None:
            return document
        if not is_allowed(licence, self.allowed):
            return None
        return document if stated else document.changed(meta={**document.record.meta, "license": licence})


def find_licence(text: str) -> str | None:
    """The SPDX expression a header states, or the licence whose text a file begins with; None: neither."""
    header = text[:_HEADER]
    if not _SAYS_SOMETHING.search(header):
        return None
    stated = _SPDX.search(header)
    if stated:
        return _CLOSERS.sub("", stated[1]).strip()
    return next((name for name, pattern in _TEXTS if pattern.search(header)), None)


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be met by allowed licences (lower case): any side of OR, all sides of AND. An
    exception (WITH) only ever allows more, so it is passed over."""
    parts = iter(_PARTS.findall(expression.lower()))
    return _any_of(parts, allowed)


def _any_of(parts: Iterator[str], allowed: frozenset[str]) -> bool:
    """Up to the closing bracket or the end; AND binds closer than OR."""
    alternatives: list[list[bool]] = [[]]
    for part in parts:
        if part == ")":
            break
        if part == "or":
            alternatives.append([])
        elif part == "with":
            next(parts, None)
        elif part != "and":
            alternatives[-1].append(_any_of(parts, allowed) if part == "(" else part in allowed)
    return any(needed and all(needed) for needed in alternatives)

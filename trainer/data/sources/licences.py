"""The licence a file is under, as an SPDX identifier, from its own header or the licence text nearest to it."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

LICENCE_FILE = re.compile(r"(LICEN[CS]E|COPYING|UNLICENSE)([.-][\w.-]+)?$", re.IGNORECASE)
_HEADER = re.compile(r"SPDX-License-Identifier:\s*([\w.+ ()-]+?)\s*(?:\*/|-->|\"|'|$)", re.MULTILINE)
_HEADER_WITHIN = 4_096  # characters of a file
_CREATIVE_COMMONS = re.compile(r"creativecommons\.org/licenses/(by[a-z-]*)/(\d\.\d)")
# The first that fits: texts of the later ones are quoted by none of the earlier.
_TEXTS: tuple[tuple[str, str], ...] = (
    ("AGPL-3.0", r"GNU AFFERO GENERAL PUBLIC LICENSE\s+Version 3"),
    ("LGPL-3.0", r"GNU LESSER GENERAL PUBLIC LICENSE\s+Version 3"),
    ("LGPL-2.1", r"GNU LESSER GENERAL PUBLIC LICENSE\s+Version 2\.1"),
    ("GPL-3.0", r"GNU GENERAL PUBLIC LICENSE\s+Version 3"),
    ("GPL-2.0", r"GNU GENERAL PUBLIC LICENSE\s+Version 2"),
    ("MPL-2.0", r"Mozilla Public License,? (?:Version|v\.) ?2\.0"),
    ("Apache-2.0", r"Apache License,?\s+Version 2\.0"),
    ("PSF-2.0", r"PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2"),
    ("BSL-1.0", r"Boost Software License"),
    ("CC0-1.0", r"CC0 1\.0 Universal|creativecommons\.org/publicdomain/zero/1\.0"),
    ("Unlicense", r"This is free and unencumbered software released into the public domain"),
    ("BSD-3-Clause", r"Redistribution and use in source and binary forms[\s\S]{1,900}Neither the name"),
    ("BSD-2-Clause", r"Redistribution and use in source and binary forms"),
    ("ISC", r"Permission to use, copy, modify, and(?:/or)? distribute this software for any\s+purpose"),
    ("MIT", r"Permission is hereby granted, free of charge, to any person obtaining a copy"),
)
_PATTERNS = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _TEXTS]


def of_text(text: str) -> str:
    """The licence that a licence's text, or a link to one, is; nothing where it is none we know."""
    header = _HEADER.search(text[:_HEADER_WITHIN])
    if header:
        return header[1]
    found = _CREATIVE_COMMONS.search(text)
    if found:
        return f"CC-{found[1].upper()}-{found[2]}"
    return next((name for name, pattern in _PATTERNS if pattern.search(text)), "")


def of_header(text: str) -> str:
    """What a file says of itself in a line 'SPDX-License-Identifier: …'."""
    found = _HEADER.search(text[:_HEADER_WITHIN])
    return found[1] if found else ""


class Licences:
    """Which licence governs a path: that of the nearest folder above it with a licence file."""

    def __init__(self) -> None:
        self._of_folder: dict[str, Callable[[], str] | str] = {}

    def add(self, path: str, text: Callable[[], str] | str) -> None:
        """A licence file and its text, or how to read it when it is first wanted. Of two in a folder the first counts,
        unless nobody knows it."""
        folder = str(PurePosixPath(path).parent)
        if not self._of_folder.get(folder):
            self._of_folder[folder] = of_text(text) if isinstance(text, str) else text

    def copy(self) -> "Licences":
        copy = Licences()
        copy._of_folder = dict(self._of_folder)
        return copy

    def of(self, path: str) -> str:
        for folder in map(str, PurePosixPath(path).parents):
            if found := self._known(folder):
                return found
        return ""

    def _known(self, folder: str) -> str:
        found = self._of_folder.get(folder, "")
        if not isinstance(found, str):
            found = self._of_folder[folder] = of_text(found())
        return found

"""This machine's own Python installation as text: code, docstrings, locale catalogues, package texts.

Real text on any machine where the platform runs, so a first corpus needs no download.
"""

import ast
import gettext
import re
import sysconfig
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from trainer.data.sources.base import FORMULA, Found, Skipped, Source, Unit, domain_of, make_source, record
from trainer.data.sources.folders import walk
from trainer.spec import Domain

# Packages whose docstrings hold formulas, as far as they are installed.
SCIENCE_PACKAGES = ("sympy", "scipy", "numpy", "networkx", "sklearn", "torch", "mpmath", "statsmodels")


def installation_sources() -> list[Source]:
    """What any Python installation with our dependencies has, by what it is good for."""
    library, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    return [
        make_source("python-code", _file_units("python-code", library, library, ".py", _code)),
        make_source(
            "python-science",
            [
                unit
                for package in SCIENCE_PACKAGES
                for unit in _file_units("python-science", packages / package, packages, ".py", _formulas)
            ],
        ),
        make_source("python-locales", _file_units("python-locales", packages, packages, ".mo", catalogue)),
        make_source("python-packages", [_package_unit(found) for found in metadata.distributions()]),
        make_source("python-docstrings", _file_units("python-docstrings", library, library, ".py", _prose)),
    ]


def _file_units(source: str, root: Path, base: Path, suffix: str, read: Any) -> list[Unit]:
    return [
        Unit(source, str(path.relative_to(base)), path.stat().st_size, partial(_records, read, path, base))
        for path in walk(root, suffix)
    ]


def _records(read: Any, path: Path, base: Path) -> Iterator[Found]:
    try:
        yield from read(path, str(path.relative_to(base)))
    except OSError as error:
        yield Skipped("file cannot be read", str(path.relative_to(base)), str(error.strerror or error))


def _code(path: Path, name: str) -> Iterator[Found]:
    yield record(_text(path), "python-code", "code", "python", path=name)


def _formulas(path: Path, name: str) -> Iterator[Found]:
    text = _text(path)
    # Parsing is the slow part; most files of a science package hold no formula.
    if FORMULA.search(text):
        yield from _docstrings(text, "python-science", "science", name)


def _prose(path: Path, name: str) -> Iterator[Found]:
    yield from _docstrings(_text(path), "python-docstrings", "general", name)


def _docstrings(text: str, source: str, domain: Domain, name: str) -> Iterator[Found]:
    """Docstrings with formulas (science) or without (general prose)."""
    for owner, docstring in _docstrings_of(text):
        if domain_of(docstring) == domain:
            yield record(docstring, source, domain, path=f"{name}:{owner}")


def _docstrings_of(text: str) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return  # a template or a file for another version of Python
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "name", ""), docstring


def catalogue(path: Path, name: str) -> Iterator[Found]:
    """The translated sentences of a compiled gettext catalogue, as one record."""
    if path.parent.name != "LC_MESSAGES":
        return
    with open(path, "rb") as file:
        translations = gettext.GNUTranslations(file)
    messages: dict[Any, str] = vars(translations)["_catalog"]
    sentences = dict.fromkeys(text for key, text in messages.items() if key and text and text != key)
    language = path.parent.parent.name.split("_")[0].split("-")[0]
    domain: Domain = "general" if language == "en" else "multilingual"
    yield record("\n".join(sentences), "python-locales", domain, language, path=name)


def _package_unit(distribution: metadata.Distribution) -> Unit:
    name = distribution.metadata["Name"]
    return Unit("python-packages", name, 0, partial(_package_texts, distribution, name))


def _package_texts(distribution: metadata.Distribution, name: str) -> Iterator[Found]:
    """Description and licences of an installed distribution."""
    texts = {"description": str(distribution.metadata.json.get("description", ""))}
    for file in distribution.files or ():
        if re.match(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", file.name, re.IGNORECASE):
            located = Path(str(distribution.locate_file(file)))
            if located.is_file():
                texts[file.name] = _text(located)
    for part, text in texts.items():
        if text.strip():
            yield record(text, "python-packages", "general", path=f"{name}/{part}")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")

"""This machine's own Python installation as text: code, docstrings, locale catalogues, package texts.

Real text on any machine where the platform runs, so a first corpus needs no download.
"""

import ast
import gettext
import os
import re
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from trainer.data.sources.base import FORMULA, Found, Skipped, Source, Unit, domain_of, make_source, record
from trainer.data.sources.licences import LICENCE_FILE, of_header
from trainer.data.sources.licences import of_text as licence_of_text
from trainer.spec import Domain

# Packages whose docstrings hold formulas, as far as they are installed.
SCIENCE_PACKAGES = ("sympy", "scipy", "numpy", "networkx", "sklearn", "torch", "mpmath", "statsmodels")
# Tests of the library are no examples of good code, and installed packages are sources of their own.
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})
_PACKAGE_TEXT = re.compile(rf"{LICENCE_FILE.pattern}|(NOTICE|AUTHORS)", re.IGNORECASE)
_LIBRARY_LICENCE = "PSF-2.0"

Reader = Callable[[Path, str], Iterator[Found]]


def installation_sources() -> list[Source]:
    """What any Python installation with our dependencies has, by what it is good for."""
    library, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    science = [packages / name for name in SCIENCE_PACKAGES]
    return [
        make_source("python-code", _units("python-code", [library], library, ".py", _code)),
        make_source("python-science", _units("python-science", science, packages, ".py", _formulas)),
        make_source("python-locales", _locale_units(packages)),
        make_source("python-packages", [_package_unit(found) for found in metadata.distributions()]),
        make_source("python-docstrings", _units("python-docstrings", [library], library, ".py", _prose)),
    ]


def _locale_units(packages: Path) -> list[Unit]:
    """Catalogues of packages, and those in the folder where Python's gettext looks by itself."""
    units = _units("python-locales", [packages], packages, ".mo", catalogue)
    shared = {Path(sys.base_prefix, "share", "locale"), Path("/usr/share/locale")}
    for folder in sorted(shared):
        units += _units("python-locales", [folder], folder.parent, ".mo", catalogue)
    return units


def _units(source: str, roots: Iterable[Path], base: Path, suffix: str, read: Reader) -> list[Unit]:
    """A unit for each file below the roots; names are relative to `base`, so they are the same on any machine."""
    units = []
    for root in roots:
        for path in _walk(root, suffix):
            name = path.relative_to(base).as_posix()
            units.append(Unit(source, name, path.stat().st_size, partial(_counting, read, path, name)))
    return units


def _walk(root: Path, suffix: str) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith(".")]
        yield from (Path(folder, name) for name in files if name.endswith(suffix) and Path(folder, name).is_file())


def _counting(read: Reader, path: Path, name: str) -> Iterator[Found]:
    try:
        yield from read(path, name)
    except OSError as error:
        yield Skipped("file cannot be read", name, str(error))


def _code(path: Path, name: str) -> Iterator[Found]:
    text = _text(path)
    yield record(text, "python-code", "code", "python", path=name, license=of_header(text) or _LIBRARY_LICENCE)


def _formulas(path: Path, name: str) -> Iterator[Found]:
    text = _text(path)
    # Parsing is the slow part; most files of a science package hold no formula.
    if FORMULA.search(text):
        license = _package_licence(name.split("/")[0])
        yield from _docstrings(text, "python-science", "science", name, license)


def _prose(path: Path, name: str) -> Iterator[Found]:
    yield from _docstrings(_text(path), "python-docstrings", "general", name, _LIBRARY_LICENCE)


def _docstrings(text: str, source: str, domain: Domain, name: str, license: str) -> Iterator[Found]:
    """Docstrings with formulas (science) or without (general prose)."""
    for owner, docstring in _docstrings_of(text):
        if domain_of(docstring) == domain:
            yield record(docstring, source, domain, path=f"{name}:{owner}", **_licensed(license))


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
    try:
        with open(path, "rb") as file:
            translations = gettext.GNUTranslations(file)
    except (UnicodeDecodeError, struct.error, LookupError) as error:
        yield Skipped("damaged catalogue", name, str(error))
        return
    messages: dict[Any, str] = vars(translations)["_catalog"]
    sentences = dict.fromkeys(text for key, text in messages.items() if key and text and text != key)
    language = re.split(r"[_.@-]", path.parent.parent.name)[0]
    domain: Domain = "general" if language == "en" else "multilingual"
    yield record("\n".join(sentences), "python-locales", domain, language, path=name)


def _package_unit(distribution: metadata.Distribution) -> Unit:
    name = distribution.metadata["Name"]
    return Unit("python-packages", name, 0, partial(_package_texts, distribution, name))


def _package_texts(distribution: metadata.Distribution, name: str) -> Iterator[Found]:
    """Description and licences of an installed distribution."""
    license = _named_licence(distribution)
    texts = {"description": str(distribution.metadata.json.get("description", ""))}
    for file in distribution.files or ():
        located = Path(str(distribution.locate_file(file)))
        if _PACKAGE_TEXT.match(file.name) and located.is_file():
            try:
                texts[file.name] = _text(located)
            except OSError as error:
                yield Skipped("file cannot be read", f"{name}/{file.name}", str(error))
    for part, text in texts.items():
        if text.strip():
            yield record(text, "python-packages", "general", path=f"{name}/{part}", **_licensed(license))


@cache
def _package_licence(package: str) -> str:
    """Of the distribution that brings a package; names of both are mostly the same."""
    try:
        return _named_licence(metadata.distribution({"sklearn": "scikit-learn"}.get(package, package)))
    except metadata.PackageNotFoundError:
        return ""


def _named_licence(distribution: metadata.Distribution) -> str:
    """What a distribution says of its licence, where that is an identifier and not a whole text."""
    named = distribution.metadata.json
    found = str(named.get("license_expression") or named.get("license") or "")
    return found if len(found) < 100 and "\n" not in found else licence_of_text(found)


def _licensed(license: str) -> dict[str, str]:
    return {"license": license} if license else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")

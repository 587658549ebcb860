"""Where text comes from: folders a user names, and this machine's own Python installation.

Every source yields records in an order that depends only on the files' names and contents, one at a time. Language
is left empty where nobody said it; the language rule fills it in.
"""

import ast
import gettext
import gzip
import hashlib
import json
import os
import re
import sysconfig
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from trainer.spec import DOMAINS, Domain, Record

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".tex")
ROW_SUFFIXES = (".jsonl", ".jsonl.gz")
# Packages whose docstrings hold formulas, as far as they are installed.
SCIENCE_PACKAGES = ("sympy", "scipy", "numpy", "networkx", "sklearn", "torch", "mpmath", "statsmodels")
_FORMULA = re.compile(r":math:|\.\. math::|\\begin\{|\$[^$\n]*\\[a-zA-Z]+[^$\n]*\$|\\(?:frac|sum|int|sqrt)\b")
_SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})


@dataclass(frozen=True)
class Source:
    """A named stream of records; `clean` stops reading it after its share of megabytes."""

    name: str
    read: Callable[[], Iterator[Record]]


def open_sources(folders: Iterable[str], python_installation: bool) -> list[Source]:
    """The sources of a clean job; checks every folder before anything is read.

    Raises:
        ValueError: a folder is missing, unreadable or holds no file of a kind that is read, or no source is left.
    """
    sources = [_folder_source(Path(folder)) for folder in folders]
    if python_installation:
        sources += installation_sources()
    if not sources:
        raise ValueError("there is nothing to read: name a folder or set python_installation")
    return sources


# -- folders ---------------------------------------------------------------------------------------------------------


def _folder_source(folder: Path) -> Source:
    if not folder.is_dir():
        raise ValueError(f"folder {folder} does not exist; correct 'folders' of the clean job")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ValueError(f"folder {folder} cannot be read; check its permissions")
    kinds = (*TEXT_SUFFIXES, *ROW_SUFFIXES, ".py")
    files = [path for path in _walk(folder, on_error=_refuse) if path.name.lower().endswith(kinds)]
    if not files:
        raise ValueError(f"folder {folder} holds no file of the kinds {', '.join(kinds)}")
    for path in files:
        if not os.access(path, os.R_OK):
            raise ValueError(f"file {path} cannot be read; check its permissions")
    return Source(folder.name, lambda: _folder_records(files, folder))


def _refuse(error: OSError) -> None:
    raise ValueError(f"folder {error.filename} cannot be read ({error.strerror}); check its permissions") from error


def _folder_records(files: Iterable[Path], folder: Path) -> Iterator[Record]:
    """Raises: ValueError: there is nothing in any file."""
    empty = True
    for path in files:
        for found in _file_records(path, folder):
            empty = False
            yield found
    if empty:
        raise ValueError(f"folder {folder} holds no text: no row of its JSON Lines files has a field 'text'")


def _file_records(path: Path, folder: Path) -> Iterator[Record]:
    name = str(path.relative_to(folder))
    if path.name.lower().endswith(ROW_SUFFIXES):
        yield from _row_records(path, folder.name, name)
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".py":
        yield record(text, folder.name, "code", "python", path=name)
    else:
        yield record(text, folder.name, _domain_of(text), path=name)


def _row_records(path: Path, source: str, name: str) -> Iterator[Record]:
    """Rows of a JSON Lines file that have a `text`; `lang` and a `domain` of ours are taken over.

    Raises:
        ValueError: a line is no JSON object, naming file and line.
    """
    for number, line in _numbered_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}; repair or remove the file") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} is no JSON object; each line holds one object with a 'text'")
        text = row.get("text")
        if isinstance(text, str):
            domain = row["domain"] if row.get("domain") in DOMAINS else _domain_of(text)
            language = str(row.get("lang") or row.get("language") or "")
            yield record(text, source, domain, language, path=name, row=number)


def _numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Raises: ValueError: the file is compressed and damaged."""
    try:
        with _open_text(path) as file:
            yield from enumerate(file, start=1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}; repair or remove the file") from error


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return open(path, encoding="utf-8", errors="replace")


# -- the Python installation -----------------------------------------------------------------------------------------


def installation_sources() -> list[Source]:
    """What any Python installation with our dependencies has: code, docstrings, locale catalogues, package texts."""
    library, packages = Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))
    return [
        Source("python-code", lambda: _code(library)),
        Source("python-science", lambda: _docstrings(packages, SCIENCE_PACKAGES, "science")),
        Source("python-locales", lambda: catalogues(packages)),
        Source("python-packages", _package_texts),
        Source("python-docstrings", lambda: _docstrings(library, (".",), "general")),
    ]


def _code(library: Path) -> Iterator[Record]:
    for path in _walk(library, ".py"):
        text = path.read_text(encoding="utf-8", errors="replace")
        yield record(text, "python-code", "code", "python", path=str(path.relative_to(library)))


def _docstrings(root: Path, packages: Iterable[str], domain: Domain) -> Iterator[Record]:
    """Docstrings with formulas (science) or without (general prose)."""
    for package in packages:
        for path in _walk(root / package, ".py"):
            text = path.read_text(encoding="utf-8", errors="replace")
            # Parsing is the slow part; most files of a science package hold no formula.
            if domain == "science" and not _FORMULA.search(text):
                continue
            for name, docstring in _docstrings_of(text):
                if _domain_of(docstring) == domain:
                    place = f"{path.relative_to(root)}:{name}"
                    yield record(
                        docstring, f"python-{'docstrings' if domain == 'general' else domain}", domain, path=place
                    )


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


def catalogues(packages: Path) -> Iterator[Record]:
    """The translated sentences of compiled gettext catalogues, one record a catalogue."""
    for path in _walk(packages, ".mo"):
        if path.parent.name != "LC_MESSAGES":
            continue
        with open(path, "rb") as file:
            translations = gettext.GNUTranslations(file)
        catalogue: dict[Any, str] = vars(translations)["_catalog"]
        sentences = dict.fromkeys(text for key, text in catalogue.items() if key and text and text != key)
        language = path.parent.parent.name.split("_")[0].split("-")[0]
        domain: Domain = "general" if language == "en" else "multilingual"
        yield record("\n".join(sentences), "python-locales", domain, language, path=str(path.relative_to(packages)))


def _package_texts() -> Iterator[Record]:
    """Descriptions and licences of the installed distributions."""
    found = sorted(metadata.distributions(), key=lambda found: found.metadata["Name"].lower())
    for distribution in found:
        name = distribution.metadata["Name"]
        texts = {"description": str(distribution.metadata.json.get("description", ""))}
        for file in distribution.files or ():
            if re.match(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", file.name, re.IGNORECASE):
                located = Path(str(distribution.locate_file(file)))
                if located.is_file():
                    texts[file.name] = located.read_text(encoding="utf-8", errors="replace")
        for part, text in texts.items():
            if text.strip():
                yield record(text, "python-packages", "general", path=f"{name}/{part}")


# -- shared ----------------------------------------------------------------------------------------------------------


def record(text: str, source: str, domain: Domain, language: str = "", **meta: Any) -> Record:
    """A record whose id is the hash of where it came from and what it says."""
    place = json.dumps([source, meta, text], ensure_ascii=True)
    identity = hashlib.sha256(place.encode()).hexdigest()[:16]
    # Half of a surrogate pair, which JSON can spell, is no text that UTF-8 can hold.
    clean = text.encode("utf-8", errors="replace").decode()
    return Record(id=identity, text=clean, source=source, domain=domain, language=language, meta=meta)


def _domain_of(text: str) -> Domain:
    """Science where there are several formulas; the language rule tells general from multilingual later."""
    return "science" if len(_FORMULA.findall(text[:20_000])) >= 2 else "general"


def _walk(root: Path, suffix: str = "", on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """Files below a folder, in an order by hash of their names: the first megabytes are a sample of all of it.

    Args:
        on_error: called with a folder that cannot be listed; without it such a folder is left out.
    """
    found = []
    for folder, folders, files in os.walk(root, onerror=on_error):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith(".")]
        found += [Path(folder, name) for name in files if name.endswith(suffix)]
    return sorted(found, key=lambda path: hashlib.sha256(str(path.relative_to(root)).encode()).digest())

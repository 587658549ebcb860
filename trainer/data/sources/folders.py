"""Folders a user names: which files they hold and what is read out of each."""

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

from trainer.data.sources.base import Found, Skipped, Source, Unit, domain_of, make_source, record
from trainer.spec import DOMAINS

TEXT_SUFFIXES = (".txt", ".md", ".rst", ".tex")
ROW_SUFFIXES = (".jsonl", ".jsonl.gz")
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})


def folder_source(folder: Path) -> Source:
    """Raises: ValueError: the folder is missing, unreadable or holds no file of a kind that is read."""
    if not folder.is_dir():
        raise ValueError(f"folder {folder} does not exist; correct 'folders' of the clean job")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ValueError(f"folder {folder} cannot be read; check its permissions")
    kinds = (*TEXT_SUFFIXES, *ROW_SUFFIXES, ".py")
    files = [path for path in walk(folder) if path.name.lower().endswith(kinds)]
    if not files:
        raise ValueError(f"folder {folder} holds no file of the kinds {', '.join(kinds)}")
    return make_source(folder.name, [_unit(path, folder) for path in files])


def walk(root: Path, suffix: str = "") -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _LEFT_OUT and not name.startswith(".")]
        yield from (Path(folder, name) for name in files if name.endswith(suffix))


def _unit(path: Path, folder: Path) -> Unit:
    name = str(path.relative_to(folder))
    return Unit(folder.name, name, path.stat().st_size, partial(_file_records, path, folder.name, name))


def _file_records(path: Path, source: str, name: str) -> Iterator[Found]:
    try:
        if path.name.lower().endswith(ROW_SUFFIXES):
            yield from _row_records(path, source, name)
            return
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        yield Skipped("file cannot be read", name, str(error.strerror or error))
        return
    if path.suffix == ".py":
        yield record(text, source, "code", "python", path=name)
    else:
        yield record(text, source, domain_of(text), path=name)


def _row_records(path: Path, source: str, name: str) -> Iterator[Found]:
    """Rows of a JSON Lines file; `lang` and a `domain` of ours are taken over."""
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, start=1):
                yield _row_record(line, source, name, number)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        yield Skipped("damaged archive", name, str(error))


def _row_record(line: str, source: str, name: str, number: int) -> Found:
    try:
        row = json.loads(line)
    except ValueError as error:
        return Skipped("row is not JSON", f"{name}, row {number}", str(error))
    if not isinstance(row, dict):
        return Skipped("row is no JSON object", f"{name}, row {number}")
    text = row.get("text")
    if not isinstance(text, str):
        return Skipped("field missing", f"{name}, row {number}", "text")
    domain = row["domain"] if row.get("domain") in DOMAINS else domain_of(text)
    language = str(row.get("lang") or row.get("language") or "")
    return record(text, source, domain, language, path=name, row=number)


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return open(path, encoding="utf-8", errors="replace")

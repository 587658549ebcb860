"""Text that an evaluation asks about must not be trained on."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainer.data.hashing import Hashes, ngram_hashes
from trainer.data.rules.document import Document
from trainer.data.words import find_words

RUN, SHORT_RUN = 13, 8  # words; the shorter for texts of an evaluation that have less than 13
_SUFFIXES = (".jsonl", ".jsonl.gz")
_FILTER_BITS = 24


class Contamination:
    """Drops text that shares a run of 13 words with an evaluation (Brown et al. 2020, arXiv:2005.14165, appendix C), or
    one of 8 words with a text of it that has no 13. Texts of less than 8 words say too little to be recognised.

    Args:
        texts: all that the evaluations ask and answer.
    """

    name = "in an evaluation set"

    def __init__(self, texts: Iterable[str]) -> None:
        runs: dict[int, list[Hashes]] = {RUN: [], SHORT_RUN: []}
        for text in texts:
            hashes = find_words(text).hashes
            n = RUN if len(hashes) >= RUN else SHORT_RUN
            runs[n].append(ngram_hashes(hashes, n))
        self._known = {n: _Known(np.concatenate(found)) for n, found in runs.items() if any(map(len, found))}

    def apply(self, document: Document) -> Document | None:
        hashes = document.words.hashes
        return None if any(known.has_any(ngram_hashes(hashes, n)) for n, known in self._known.items()) else document


class _Known:
    """Hashes to be found again; a table by their first 24 bits passes over nearly all that are none of them."""

    def __init__(self, hashes: Hashes) -> None:
        self._hashes = np.unique(hashes)
        self._table = np.zeros(2**_FILTER_BITS, np.bool_)
        self._table[self._places(hashes)] = True

    def has_any(self, hashes: Hashes) -> bool:
        perhaps = hashes[self._table[self._places(hashes)]]
        places = np.minimum(np.searchsorted(self._hashes, perhaps), len(self._hashes) - 1)
        return bool((self._hashes[places] == perhaps).any())

    @staticmethod
    def _places(hashes: Hashes) -> Hashes:
        return hashes >> np.uint64(64 - _FILTER_BITS)


def evaluation_texts(paths: Iterable[Path]) -> Iterator[str]:
    """All strings in the rows of JSON Lines files, and of those anywhere in folders.

    Raises:
        ValueError: a path does not exist, is no such file or holds none, or a row is no JSON.
    """
    for path in paths:
        for file in _files(path):
            with _open(file) as lines:
                try:
                    for number, line in enumerate(lines, 1):
                        yield from _strings(_row(line, file, number))
                except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                    raise ValueError(f"evaluation set {file} is damaged: {error}; give it anew") from error


def _files(path: Path) -> list[Path]:
    files = sorted(file for file in path.rglob("*") if file.name.endswith(_SUFFIXES)) if path.is_dir() else [path]
    if not files or not path.exists() or not files[0].name.endswith(_SUFFIXES):
        raise ValueError(f"evaluation set {path} is no file .jsonl or .jsonl.gz and no folder with any; correct it")
    return files


def _open(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return open(path, encoding="utf-8", errors="replace")


def _row(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line) if line.strip() else None
    except ValueError as error:
        raise ValueError(f"evaluation set {path}, line {number} is no JSON: {error}; repair the line") from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)

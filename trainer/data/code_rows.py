"""Code in packed rows: beginnings that a network can go on from, and gaps that it can fill."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.rows import Rows
from trainer.data.structure.errors import first_error
from trainer.data.structure.kinds import CodeKind
from trainer.data.tokenizer import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer
from trainer.spec import DOMAINS

LANGUAGE = "python"  # of the rows' code, where a token has a label
STATEMENTS = (b"def ", b"class ", b"import ", b"from ", b"if ", b"for ", b"while ", b"with ", b"try:")
MOST_ROWS = 4_096  # of a source are looked through


class Gap(NamedTuple):
    """Code with a gap, up to the sign that the middle follows; and the middle with its end token."""

    prompt: list[int]
    middle: list[int]


def beginnings(rows: Rows, tokenizer: Tokenizer, length: int) -> list[list[int]]:
    """Beginnings of programs, all of `length` tokens: what stands before a document, then code from a line on that
    starts with one of `STATEMENTS`."""
    first, needed = len(tokenizer.start_ids), length - len(tokenizer.start_ids)
    found = []
    for ids, kinds in _code(rows):
        keywords = np.flatnonzero(kinds[: max(0, len(ids) - needed)] == CodeKind.KEYWORD)
        for place in keywords[keywords >= first].tolist():
            texts = tokenizer.bytes_of(ids[place : place + needed])
            if _starts_line(tokenizer, ids[first:place]) and all(texts) and _begins(b"".join(texts)):
                found.append([*tokenizer.start_ids, *ids[place : place + needed]])
    return found


def _starts_line(tokenizer: Tokenizer, before: list[int]) -> bool:
    return not before or tokenizer.bytes_of(before[-1:])[0].endswith(b"\n")


def _begins(source: bytes) -> bool:
    """Whether this may be the beginning of a program."""
    return source.startswith(STATEMENTS) and first_error(source, LANGUAGE, ended=False) is None


def gaps(rows: Rows, tokenizer: Tokenizer, most: int) -> list[Gap]:
    """Each piece of code with a gap of at most `most` tokens, the end token among them; not those that tell what
    follows the gap first, where the prefix is to be written too."""
    first = len(tokenizer.start_ids)
    prefix, suffix, middle = (tokenizer.special_ids[token] for token in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
    found = []
    for ids, _ in _code(rows):
        if ids[first : first + 1] == [prefix] and ids[first + 1] != suffix and middle in ids:
            split = ids.index(middle) + 1
            if len(ids) - split <= most:
                found.append(Gap(ids[:split], ids[split:]))
    return found


def _code(rows: Rows) -> Iterator[tuple[list[int], NDArray[np.int8]]]:
    """Ids and structure labels of each piece whose domain is code, in order."""
    batch = rows.take(np.arange(min(len(rows), MOST_ROWS)))
    columns = (batch.tokens_BL, batch.segments_BL, batch.domains_BL, batch.structure_BL)
    code = DOMAINS.index("code")
    for tokens, segments, domains, structure in zip(*(column.numpy() for column in columns), strict=True):
        for span in _pieces(segments):
            if domains[span.start] == code:
                yield tokens[span].tolist(), structure[span]


def _pieces(segments: NDArray[np.int64]) -> Iterator[slice]:
    """Where each piece of a row stands, padding left out."""
    borders = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(segments)]
    for start, stop in pairwise(borders):
        if segments[start] > 0:
            yield slice(start, stop)

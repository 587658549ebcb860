"""Code in packed rows: beginnings that a network can go on from, and gaps that it can fill."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainer.data.rows import Rows
from trainer.data.structure.errors import first_error
from trainer.data.structure.kinds import CodeKind
from trainer.data.tokenizer import FIM_MIDDLE, FIM_PREFIX, Tokenizer
from trainer.spec import DOMAINS

LANGUAGE = "python"  # of the rows' code, where a token has a label
MOST_ROWS = 8_192  # of a source are looked through


class Gap(NamedTuple):
    """Code with a gap, up to the sign that the middle follows; and the middle with its end token."""

    prompt: list[int]
    middle: list[int]


def beginnings(rows: Rows, tokenizer: Tokenizer, length: int) -> list[list[int]]:
    """The first `length` tokens of each document or chunk that begins with a statement's keyword, such as `def` or
    `import`, and is longer: beginnings of programs, all equally long."""
    first = len(tokenizer.start_ids)
    found = []
    for ids, kinds in _code(rows):
        if len(ids) > length > first and kinds[first] == CodeKind.KEYWORD and ids[:first] == tokenizer.start_ids:
            prompt = ids[:length]
            if first_error(b"".join(tokenizer.token_bytes(prompt)), LANGUAGE, ended=False) is None:
                found.append(prompt)
    return found


def gaps(rows: Rows, tokenizer: Tokenizer, most: int) -> list[Gap]:
    """Each piece of code with a gap of at most `most` tokens, the end token among them."""
    first = len(tokenizer.start_ids)
    prefix, middle = tokenizer.special_ids[FIM_PREFIX], tokenizer.special_ids[FIM_MIDDLE]
    found = []
    for ids, _ in _code(rows):
        if ids[first : first + 1] == [prefix] and middle in ids:
            split = ids.index(middle) + 1
            if len(ids) - split <= most:
                found.append(Gap(ids[:split], ids[split:]))
    return found


def _code(rows: Rows) -> Iterator[tuple[list[int], Sequence[int]]]:
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

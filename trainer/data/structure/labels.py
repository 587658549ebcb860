"""From a record to a structure label for each byte of its text, and from there to its tokens. Imports no torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.structure.code import LANGUAGES, label_code
from trainer.data.structure.kinds import NONE
from trainer.data.structure.latex import label_latex
from trainer.spec import Record


def label_bytes(record: Record) -> NDArray[np.int8]:
    """One label for each byte of the record's UTF-8: a `CodeKind` in code of a language that we have a grammar of, a
    `LatexKind` in science, `NONE` elsewhere."""
    if record.domain == "code" and record.language in LANGUAGES:
        return label_code(record.text, record.language)
    if record.domain == "science":
        return label_latex(record.text)
    return np.full(len(record.text.encode()), NONE, dtype=np.int8)


def label_tokens(labels: NDArray[np.int8], lengths: Sequence[int] | NDArray[np.int64]) -> list[int]:
    """The label of each token, given how many bytes it stands for: that of its first byte that has one.

    All `NONE` where the tokens are longer than the text, as those of a tokenizer that puts a space before it.
    """
    ends = np.cumsum(np.asarray(lengths, dtype=np.int64))
    if not len(ends) or ends[-1] > len(labels):
        return [NONE] * len(ends)
    places = np.append(np.where(labels != NONE, np.arange(len(labels)), len(labels)), len(labels))
    next_labelled = np.minimum.accumulate(places[::-1])[::-1]
    first = next_labelled[ends - lengths]
    found = np.append(labels, np.int8(NONE))[first]
    tokens: list[int] = np.where(first < ends, found, NONE).tolist()
    return tokens

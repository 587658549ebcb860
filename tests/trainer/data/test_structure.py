"""Structure labels against what a reader would say, and their way through tokens and gaps."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.pieces import completion_pieces, document_pieces
from trainer.data.sources import record
from trainer.data.structure.code import label_code
from trainer.data.structure.kinds import CODE_KINDS, LATEX_KINDS, NONE, CodeKind, LatexKind
from trainer.data.structure.labels import label_bytes, label_tokens
from trainer.data.structure.latex import label_latex
from trainer.data.tokenizer import Tokenizer
from trainer.spec import Domain, Record

CODE = '''from os import path as where
import os.path

@cached(1)
class Größe(Base, key=None):
    """What it says."""

    def area(self, width: int, height: list[float] = 2.5, *rest, **more) -> bool:
        # why
        return self.unit.scale(width * height, by=more["x"]) and not f"{width} b"
'''
FORMULA = r"""Let $\frac{\alpha_1}{b} + x^{2n} \le \sum_{i=0} \log y, \left( 3 \right)$ % ö
and :math:`\sqrt[3]{z}`, so that
.. math::
    E = m c^2

\begin{align} a & b \\ % note
\end{align} holds in \text{every} case."""


def parts(text: str, labels: np.ndarray, kind: int) -> list[str]:
    """The stretches of a text that have a label, blank space between them left out."""
    raw = text.encode()
    marked = "".join(
        bytes([byte]).decode("latin-1") if label == kind else "\0" for byte, label in zip(raw, labels, strict=True)
    )
    return [part.encode("latin-1").decode() for part in marked.split("\0") if part]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CodeKind.KEYWORD, ["from", "import", "as", "import", "class", "def", "return"]),
        (CodeKind.CLASS, ["Größe"]),
        (CodeKind.FUNCTION, ["area"]),
        (CodeKind.PARAMETER, ["self", "width", "height", "rest", "more"]),
        (CodeKind.ARGUMENT, ["key", "by"]),
        (CodeKind.CALL, ["cached", "scale"]),
        (CodeKind.ATTRIBUTE, ["unit"]),
        (CodeKind.VARIABLE, ["Base", "self", "width", "height", "more", "width"]),
        (CodeKind.MODULE, ["os", "path", "where", "os", "path"]),
        (CodeKind.TYPE, ["int", "list", "float", "bool"]),
        (CodeKind.NUMBER, ["1", "2.5"]),
        (CodeKind.CONSTANT, ["None"]),
        (CodeKind.COMMENT, ["#", "why"]),
        (CodeKind.OPERATOR, ["@", "=", "=", "*", "**", "->", "*", "=", "and", "not"]),
    ],
)
def test_names_in_code_are_labelled_by_what_they_do(kind: CodeKind, expected: list[str]) -> None:
    labels = label_code(CODE, "python")
    found = " ".join(parts(CODE, labels, kind)).split() if kind is CodeKind.COMMENT else parts(CODE, labels, kind)
    assert found == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (LatexKind.COMMAND, [r"\frac", r"\sqrt", r"\text"]),
        (LatexKind.ARGUMENT, [r"\alpha", "b", "3", "z"]),
        (LatexKind.SUBSCRIPT, ["_1", "_", "i", "0"]),
        (LatexKind.SUPERSCRIPT, ["^", "2n", "^2"]),
        (LatexKind.OPERATOR, ["+"]),
        (LatexKind.RELATION, [r"\le", "=", "="]),
        (LatexKind.BIG_OPERATOR, [r"\sum"]),
        (LatexKind.FUNCTION, [r"\log"]),
        (LatexKind.VARIABLE, ["x", "y", "E", "m", "c", "a", "b"]),
        (LatexKind.NUMBER, ["3"]),
        (LatexKind.ENVIRONMENT, [r"\begin{align}", r"\end{align}"]),
        (LatexKind.SEPARATOR, [",", "&", r"\\"]),
        (LatexKind.COMMENT, ["%", "note"]),
    ],
)
def test_signs_in_formulas_are_labelled_by_what_they_do(kind: LatexKind, expected: list[str]) -> None:
    assert parts(FORMULA, label_latex(FORMULA), kind) == expected


def test_prose_around_formulas_is_text_and_words_in_them_too() -> None:
    words = parts(FORMULA, label_latex(FORMULA), LatexKind.TEXT)
    assert words == ["Let", "%", "ö", "and", ",", "so", "that", "holds", "in", "every", "case."]


def test_what_does_not_parse_has_no_label_and_spoils_nothing_else() -> None:
    code = "def sound():\n    return 1\n\ndef ) broken ( of:\n"
    labels = label_code(code, "python")
    assert parts(code, labels, CodeKind.FUNCTION)[0] == "sound"
    assert (labels[code.index("broken") :] == NONE).any()
    text = r"First $\frac{a}{b}$, then $\frac{a$, then $c + 1$."
    labels = label_latex(text)
    assert (labels[text.index(r"$\frac{a$") :][:9] == NONE).all()
    assert parts(text, labels, LatexKind.VARIABLE) == ["c"]


@pytest.mark.parametrize(("domain", "language"), [("general", "en"), ("multilingual", "de"), ("code", "cobol")])
def test_only_science_and_code_that_can_be_parsed_have_labels(domain: Domain, language: str) -> None:
    assert (label_bytes(record(CODE + FORMULA, "s", domain, language)) == NONE).all()


@given(st.text(max_size=60), st.sampled_from(["$", "$$", r"\[", "`", ":math:`", r"\begin{a}", r"\x{", "", ".. math::"]))
def test_every_text_has_one_label_a_byte(text: str, mark: str) -> None:
    whole = text[:30] + mark + text[30:]
    for labels in (label_latex(whole), label_code(whole, "python")):
        assert len(labels) == len(whole.encode())
        assert labels.min(initial=NONE) >= NONE
        assert labels.max(initial=NONE) < min(len(CODE_KINDS), len(LATEX_KINDS)) == 16


@given(st.lists(st.integers(-1, 15), max_size=40), st.lists(st.integers(0, 5), max_size=20))
def test_a_token_has_the_first_label_of_its_bytes(labels: list[int], lengths: list[int]) -> None:
    expected, start = [], 0
    for length in lengths:
        inside = [label for label in labels[start : start + length] if label != NONE]
        expected.append(inside[0] if inside else NONE)
        start += length
    if start > len(labels):
        expected = [NONE] * len(lengths)
    assert label_tokens(np.array(labels, dtype=np.int8), lengths) == expected


@pytest.fixture(scope="module")
def document() -> Record:
    return record("".join(CODE.replace("area", f"area_{number}") for number in range(30)), "s", "code", "python")


@pytest.fixture(scope="module")
def tokenizer(document: Record) -> Tokenizer:
    return Tokenizer.train([document.text], 380)


def test_tokens_of_a_document_and_of_its_chunks_with_gaps_keep_their_labels(
    document: Record, tokenizer: Tokenizer
) -> None:
    """A chunk's tokens, gap or not, hold as many labelled ones of each kind of name as stand in the text they cover."""
    whole = label_bytes(document)
    (piece,) = document_pieces(tokenizer, [document])
    assert piece.structure is not None
    start = 0
    for token, label in zip(piece.ids, piece.structure, strict=True):
        length = len(tokenizer.bytes_of([token])[0])
        inside = [int(kind) for kind in whole[start : start + length] if kind != NONE]
        assert label == (inside[0] if inside else NONE)
        start += length
    names: list[str] = []
    for chunk in completion_pieces(tokenizer, [document], 128, Random(0)):
        assert chunk.structure is not None
        assert len(chunk.structure) == len(chunk.ids)
        marked = [t for t, label in zip(chunk.ids, chunk.structure, strict=True) if label == CodeKind.CLASS]
        names.append(tokenizer.decode(marked))
    assert "".join(names).replace(" ", "") == "Größe" * 30

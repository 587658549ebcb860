"""Where code does not parse: the error nodes of its tree-sitter parse that nothing which may follow could mend."""

import math
from typing import NamedTuple

from tree_sitter import Node

from trainer.data.structure.code import parser

# A string that is open where a text was cut off hides how the text is meant, so its end is tried, too.
ENDINGS = (b"", b"'''", b'"""', b"'", b'"')


class Span(NamedTuple):
    """Bytes start … end of a text. The place after its last byte, where its end token stands, can be one of them."""

    start: int
    end: int


def first_error(source: bytes, language: str, *, ended: bool, start: int = 0) -> Span | None:
    """The first error node, or None where the text parses.

    An error node is a node ERROR, which covers what the parser could not use, or MISSING, which covers nothing: here it
    counts as the byte where the missing token should begin. Of several it is the one that ends first, and so the
    innermost where they nest.

    Args:
        ended: whether the text ended by itself. One that was cut off is the beginning of a program, so an error node
            that reaches its last byte (blank space aside) does not count, as what follows may mend it; nor does one
            that is gone once an open string is closed: of `ENDINGS` the one that moves the first error furthest back is
            judged. In one that ended, a node that reaches the end also covers the place of the end token.
        start: what the writer is answerable for begins here. Error nodes that end before are passed over; where there
            are no others it is the byte at `start`, since what came before did not have to be an error.
    """
    spans = _spans(source, language) if ended else _unmendable(source, language)
    if not spans:
        return None
    return next((span for span in spans if span.end > start), Span(start, start + 1))


def _unmendable(source: bytes, language: str) -> list[Span]:
    end = len(source.rstrip())
    trials = ([span for span in _spans(source + ending, language) if span.end < end] for ending in ENDINGS)
    return max(trials, key=lambda spans: spans[0].end if spans else math.inf)


def _spans(source: bytes, language: str) -> list[Span]:
    """The error nodes, those first that end first."""
    last = len(source.rstrip())
    spans = [Span(node.start_byte, max(node.end_byte, node.start_byte + 1)) for node in _error_nodes(source, language)]
    reaching = [Span(span.start, len(source) + 1) if span.end >= last else span for span in spans]
    return sorted(reaching, key=lambda span: (span.end, -span.start))


def _error_nodes(source: bytes, language: str) -> list[Node]:
    found, left = [], [parser(language).parse(source).root_node]
    while left:
        node = left.pop()
        if node.is_error or node.is_missing:
            found.append(node)
        if node.has_error:
            left.extend(node.children)
    return found

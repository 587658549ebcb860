"""A packed row as HTML: every token, whether the loss counts it, and where one document ends. Imports no Streamlit."""

from collections.abc import Sequence
from html import escape
from itertools import groupby

from dashboard.data_schemas import PackedRow, PackedToken

# Over both themes' grounds; text keeps the theme's colour.
COUNTS = "rgba(46, 150, 110, .30)"
SILENT = "rgba(130, 130, 130, .16)"
STYLE = """<style>
.octavo-row { font-family: "Source Code Pro", monospace; font-size: .86rem; line-height: 1.75; white-space: pre-wrap;
              overflow-wrap: anywhere; }
.octavo-row span { border-radius: 3px; margin-right: 1px; }
.octavo-row span:hover { outline: 2px solid #e0a800; }
.octavo-row .head { display: block; white-space: normal; font-size: .8rem; opacity: .75; border-top: 2px solid
                    rgba(130, 130, 130, .5); margin-top: .7rem; padding-top: .3rem; }
</style>"""


def row_html(row: PackedRow) -> str:
    """Segment after segment, each under a line that says what it is."""
    parts = [
        segment_html(segment, list(tokens), row) for segment, tokens in groupby(row.tokens, key=lambda t: t.segment)
    ]
    return f'{STYLE}<div class="octavo-row">{"".join(parts)}</div>'


def segment_html(segment: int, tokens: Sequence[PackedToken], row: PackedRow) -> str:
    names = dict.fromkeys(
        f"{document.kind} of {document.source or 'unknown source'}, {document.id}"
        for document in row.documents
        if document.segment == segment
    )
    counted = sum(token.counts for token in tokens)
    head = " · ".join([f"Segment {segment}", *names, f"{len(tokens)} tokens, {counted} count"])
    return f'<div class="head">{escape(head)}</div>{"".join(map(token_html, tokens))}'


def token_html(token: PackedToken) -> str:
    """Green where the token is a target of the loss, grey where it is only read; what it is when pointed at."""
    facts = [repr(token.text), f"id {token.id}", f"segment {token.segment}", token.domain, token.structure]
    title = escape(" · ".join(fact for fact in facts if fact), quote=True)
    shown = escape(token.text).replace("\n", "↵\n")
    return f'<span style="background: {COUNTS if token.counts else SILENT}" title="{title}">{shown}</span>'


def share_counted(tokens: Sequence[PackedToken]) -> float:
    """The share of tokens that the loss counts."""
    return sum(token.counts for token in tokens) / max(len(tokens), 1)

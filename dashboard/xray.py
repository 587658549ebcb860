"""A packed row as HTML: every token, whether the loss counts it, and where one document ends. Imports no Streamlit."""

from collections.abc import Iterable, Sequence
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
    """Segment after segment, each under a line that says which document it is."""
    parts = [
        segment_html(segment, list(tokens), row) for segment, tokens in groupby(row.tokens, key=lambda t: t.segment)
    ]
    return f'{STYLE}<div class="octavo-row">{"".join(parts)}</div>'


def segment_html(segment: int, tokens: Sequence[PackedToken], row: PackedRow) -> str:
    if segment == 0:
        return f'<div class="head">padding · {len(tokens)} tokens</div>'
    counted = sum(token.counts for token in tokens)
    head = f"document {segment}{described(segment, row)} · {len(tokens)} tokens, {counted} count"
    return f'<div class="head">{escape(head)}</div>{"".join(map(token_html, tokens))}'


def described(segment: int, row: PackedRow) -> str:
    """What is known of the document of a segment: they come in the same order."""
    if segment > len(row.documents):
        return ""
    document = row.documents[segment - 1]
    return "".join(f" · {part}" for part in (document.kind, document.source, document.id) if part)


def token_html(token: PackedToken) -> str:
    """Green where the token is a target of the loss, grey where it is only read; its id when pointed at."""
    title = escape(
        f"{token.text!r} · id {token.id} · document {token.segment} · {token.domain or 'no domain'}", quote=True
    )
    shown = escape(token.text).replace("\n", "↵\n")
    return f'<span style="background: {COUNTS if token.counts else SILENT}" title="{title}">{shown}</span>'


def share_counted(tokens: Iterable[PackedToken]) -> float:
    """Of the tokens that are no padding, the share that the loss counts."""
    real = [token for token in tokens if token.segment]
    return sum(token.counts for token in real) / max(len(real), 1)

"""What a dataset is made of, as bars; colours come from the theme."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import altair as alt
import streamlit as st

from dashboard import formats

BESIDE_BARS = "#848c91"  # readable on both grounds: marks of text take no colour from the theme
MOST_BARS = 60
BAR = 22


def bars(title: str, counts: Mapping[str, float], unit: str, help: str | None = None) -> None:
    """Horizontal bars, the longest first, each with its number and its share; what is beyond 60 is one last bar."""
    if not counts:
        return
    st.markdown(f"**{title}**", help=help)
    st.altair_chart(bar_chart(bar_rows(counts), unit), key=f"bars-{title}")


def bar_rows(counts: Mapping[str, float]) -> list[dict[str, Any]]:
    total = sum(counts.values()) or 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    rest = ranked[MOST_BARS:]
    if rest:
        ranked = [*ranked[:MOST_BARS], (f"{len(rest)} others", sum(count for _, count in rest))]
    return [
        {"name": name, "count": count, "text": f"{formats.number(count)} · {formats.percent(count / total)}"}
        for name, count in ranked
    ]


def bar_chart(rows: Sequence[Mapping[str, Any]], unit: str) -> alt.LayerChart | alt.FacetChart:
    most = max(row["count"] for row in rows)
    base = alt.Chart(alt.InlineData(values=list(rows))).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=200, ticks=False, domain=False)),
        # Room for the text behind the longest bar.
        x=alt.X("count:Q", title=None, axis=None, scale=alt.Scale(domain=[0, most * 1.5 or 1])),
        tooltip=[alt.Tooltip("name:N", title=" "), alt.Tooltip("text:N", title=unit)],
    )
    texts = base.mark_text(align="left", dx=5, color=BESIDE_BARS).encode(text="text:N")
    return alt.layer(base.mark_bar(cornerRadius=2), texts).properties(height=BAR * len(rows) + 10)


def histogram(lengths: Mapping[str, Sequence[float]]) -> None:
    """Documents by length; `bounds` are the lower edges of the bins, in words."""
    rows = histogram_rows(lengths["bounds"], lengths["counts"])
    chart = alt.Chart(alt.InlineData(values=rows))
    st.markdown("**Length of documents**")
    st.altair_chart(
        chart.mark_bar(cornerRadius=2)
        .encode(
            x=alt.X("words:N", sort=None, title="words", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("documents:Q", title="documents", axis=alt.Axis(tickCount=4, format="~s")),
            tooltip=["words:N", alt.Tooltip("documents:Q", format=",")],
        )
        .properties(height=220),
        key="lengths",
    )


def histogram_rows(bounds: Sequence[float], counts: Sequence[float]) -> list[dict[str, Any]]:
    """Bins named by their edges; the last has no upper one. Empty ones at the end are left out."""
    names = [f"{edge(low)}–{edge(high)}" for low, high in pairwise(bounds)] + [f"≥ {edge(bounds[-1])}"]
    rows = [{"words": name, "documents": count} for name, count in zip(names, counts, strict=True)]
    while rows and not rows[-1]["documents"]:
        rows.pop()
    return rows


def edge(words: float) -> str:
    return formats.number(round(words))


def wanted_and_reached(key: str, mixture: Mapping[str, Mapping[str, float]]) -> None:
    """Shares of tokens by domain: what was wanted beside what was reached."""
    rows = [
        {"domain": domain, "which": which, "share": shares[domain]}
        for which, shares in mixture.items()
        for domain in shares
    ]
    chart = alt.Chart(alt.InlineData(values=rows))
    st.altair_chart(
        chart.mark_bar(cornerRadius=2)
        .encode(
            y=alt.Y("domain:N", sort=None, title=None, axis=alt.Axis(ticks=False, domain=False)),
            yOffset=alt.YOffset("which:N", sort=["wanted", "reached"]),
            x=alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=5)),
            color=alt.Color("which:N", sort=["wanted", "reached"], legend=alt.Legend(orient="top", title=None)),
            tooltip=["domain:N", "which:N", alt.Tooltip("share:Q", format=".1%")],
        )
        .properties(height=190),
        key=f"mixture-{key}",
    )

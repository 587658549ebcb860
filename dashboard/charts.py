"""Curves as Altair charts; colours come from the theme, so light and dark both read well."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import streamlit as st

from dashboard import formats
from dashboard.curves import Curves, Points, thinned

HEIGHT = 190
# Below this many points each is marked, so that a single one can be seen.
FEW = 12


def line_chart(lines: Mapping[str, Points], legend: str | None, height: int = HEIGHT) -> alt.Chart:
    """Lines over steps, `height` pixels; `legend` titles the colours, None leaves it out."""
    rows = [
        {"step": step, "value": value, "line": label}
        for label, points in lines.items()
        for step, value in thinned(points)
    ]
    color = alt.Color(
        "line:N",
        title=legend,
        legend=alt.Legend(orient="bottom", title=None, columns=4) if legend else None,
        sort=list(lines),
    )
    chart: alt.Chart = alt.Chart(alt.InlineData(values=rows))
    encoded: alt.Chart = chart.mark_line(strokeWidth=1.6, clip=True, point=len(rows) < FEW).encode(
        x=alt.X(
            "step:Q", title="step", axis=alt.Axis(tickCount=5, tickMinStep=1, grid=False, format=",.0f", titlePadding=2)
        ),
        y=alt.Y(
            "value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4, format=tick_format(rows))
        ),
        color=color,
        tooltip=[alt.Tooltip("line:N", title=legend or "run"), "step:Q", alt.Tooltip("value:Q", format=".5g")],
    )
    return encoded.properties(height=height)


def tick_format(rows: Sequence[Mapping[str, Any]]) -> str:
    """Large numbers as 15k; others (0.002 would become 2m) with the digits that tell one tick from the next."""
    return ".3~s" if max((abs(row["value"]) for row in rows), default=0) >= 1000 else ".6~g"


def curve_card(name: str, runs: Mapping[str, Curves]) -> None:
    """One metric of one or two runs, with its newest value."""
    lines = {label: curves.points(name) for label, curves in runs.items()}
    newest = next(iter(lines.values()))
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            st.markdown(f"**{formats.words(name)}**", width="content")
            st.markdown(f":gray[{formats.number(newest[-1][1] if newest else None)}]", width="content")
        st.altair_chart(
            line_chart(lines, "run", HEIGHT + 40) if len(runs) > 1 else line_chart(lines, None), key=f"curve-{name}"
        )


def load_card(curves: Curves) -> None:
    """The share of tokens each expert received; even is one over their number."""
    lines = curves.expert_load()
    with st.container(border=True):
        st.markdown(
            "**Expert load**", help="Share of the (token, choice) pairs that each expert received, mean over layers."
        )
        st.altair_chart(line_chart(lines, "expert", HEIGHT + 60), key="curve-load")


def load_map_card(curves: Curves, findings: Sequence[Mapping[str, Any]]) -> None:
    """The newest load of every expert of every layer, and what the expert doctor says of it."""
    cells = curves.load_map()
    with st.container(border=True):
        st.markdown(
            "**Expert load by layer**",
            help="Share of a layer's (token, choice) pairs over an even share, at the last check; white is even.",
        )
        st.altair_chart(load_map_chart(cells), key="load-map")
        for finding in findings:
            st.markdown(f":material/stethoscope: {finding['sentence']}.  \n:gray[Remedy: {finding['remedy']}.]")


def load_map_chart(cells: Sequence[Mapping[str, float]]) -> alt.Chart:
    """Layers down, experts across; blue below an even share, red above, full at twice an even share."""
    chart: alt.Chart = alt.Chart(alt.InlineData(values=list(cells)))
    encoded: alt.Chart = chart.mark_rect().encode(
        x=alt.X("expert:O", title="expert", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("layer:O", title="layer", axis=alt.Axis(labelOverlap=True)),
        color=alt.Color(
            "ratio:Q",
            title="× even",
            scale=alt.Scale(scheme="redblue", reverse=True, domain=[0, 2], domainMid=1, clamp=True),
        ),
        tooltip=["layer:O", "expert:O", alt.Tooltip("share:Q", format=".1%"), alt.Tooltip("ratio:Q", format=".2f")],
    )
    layers = len({cell["layer"] for cell in cells})
    return encoded.properties(height=min(60 + 24 * layers, 600))


def curve_grid(runs: Mapping[str, Curves], findings: Sequence[Mapping[str, Any]] = ()) -> None:
    """Every metric of the first run, the others laid over it; and its experts, with the doctor's findings."""
    main = next(iter(runs.values()))
    if facts := main.facts():
        st.caption(" · ".join(f"{formats.words(name)} {formats.number(value)}" for name, value in facts.items()))
    with st.grid("auto", min_column_width=340):
        for name in main.names():
            curve_card(name, runs)
        if main.expert_load():
            load_card(main)
            load_map_card(main, findings)

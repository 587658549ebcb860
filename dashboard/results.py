"""What a stage reports (result.json), shown as tables and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.evaluation import difference, exact_match

NARROW = 560
ANSWER_SHARES = ("shows_work", "well_formed", "finished")


def show_result(kind: str, result: Mapping[str, Any]) -> None:
    """The result of a job, its own way for the kinds that have one."""
    if not result:
        st.info("This job has reported no result yet.")
    elif kind == "evaluate":
        evaluation(result)
    else:
        anything(result)


def evaluation(result: Mapping[str, Any]) -> None:
    """Exact match with its interval first, then what the answers look like, then groups of problems."""
    match, limits, against, count = st.columns(4)
    match.metric("Exact match", formats.percent(result.get("exact_match")), border=True)
    limits.metric("Its 95 % interval", exact_match(result).partition("(")[2].rstrip(")") or "–", border=True)
    against.metric("Against the baseline", difference(result).partition(" (")[0], border=True)
    count.metric("Problems", formats.number(result.get("n")), border=True)
    if result.get("baseline_difference"):
        st.caption(f"Paired difference with its 95 % interval: {difference(result)}.")
    shares = [f"{formats.words(name)} {formats.percent(result[name])}" for name in ANSWER_SHARES if name in result]
    if shares:
        st.caption(" · ".join(shares))
    for name in ("by_family", "by_level"):
        if groups := result.get(name):
            st.markdown(f"**Exact match {formats.words(name).lower()}**")
            st.dataframe(group_rows(groups), hide_index=True, height="content", width=NARROW)
    if load := result.get("expert_load"):
        st.markdown("**Expert load by layer**")
        st.dataframe(load_rows(load), hide_index=True, height="content")
    shown = ("n", "exact_match", "exact_match_interval", "baseline_difference", "by_family", "by_level", "expert_load")
    anything({name: value for name, value in result.items() if name not in (*shown, *ANSWER_SHARES)})


def load_rows(load: Sequence[Sequence[float]]) -> list[dict[str, str]]:
    """[layers][experts] shares as one row a layer."""
    return [
        {"Layer": str(layer)} | {f"Expert {expert}": formats.percent(share) for expert, share in enumerate(shares)}
        for layer, shares in enumerate(load)
    ]


def group_rows(groups: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The share of each group of problems, the weakest first."""
    ranked = sorted(groups.items(), key=lambda item: item[1]["exact_match"])
    return [
        {
            "Group": formats.words(name),
            "Problems": group["n"],
            "Exact match": formats.percent(group["exact_match"]),
            "95 % interval": formats.interval(group["low"], group["high"]) if "low" in group else "–",
        }
        for name, group in ranked
    ]


def anything(result: Mapping[str, Any]) -> None:
    """Plain values in one table; each object or list of objects in one of its own."""
    plain = {name: value for name, value in result.items() if not nested(value)}
    if plain:
        show_table(table_rows(plain))
    for name, value in result.items():
        if nested(value):
            st.markdown(f"**{formats.words(name)}**")
            show_table(table_rows(value))


def show_table(rows: list[dict[str, str]]) -> None:
    """Two columns need no whole page."""
    st.dataframe(rows, hide_index=True, height="content", width=NARROW if len(rows[0]) == 2 else "stretch")


def nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def table_rows(value: Mapping[str, Any] | list[Mapping[str, Any]]) -> list[dict[str, str]]:
    """An object as rows of name and value, or name and one column a field; a list of objects as one row each."""
    if isinstance(value, list):
        return [{formats.words(name): formats.brief(item) for name, item in row.items()} for row in value]
    rows = []
    for name, item in upright(value).items():
        fields = item if isinstance(item, Mapping) else {"value": item}
        cells = {formats.words(str(key)): formats.brief(field) for key, field in fields.items()}
        rows.append({"Name": formats.words(name)} | cells)
    return rows


def upright(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object of objects, turned so that the longer side runs down the page."""
    if not all(isinstance(row, Mapping) for row in table.values()):
        return table
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    if len(columns) <= max(len(table), 6):
        return table
    return {column: {name: row.get(column) for name, row in table.items()} for column in columns}

"""A look into JSON Lines of any size: pages, search, filters, and one row in full."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.client import Asked
from dashboard.data_schemas import Rows
from dashboard.login import client

PAGE_ROWS = 10
PATIENCE_S = 4.0
CELL_CHARACTERS = 160
Show = Callable[[Rows], None]


def preview(owner: str, artifact: str, filters: Mapping[str, Sequence[str]], show: Show) -> None:
    """Rows of an artifact; `filters`: field -> the values to choose from."""
    asked = choose(f"{owner}-{artifact}", filters)
    if asked == Asked():
        by_page(owner, artifact, show)
    else:
        by_search(owner, artifact, asked, show)


def choose(key: str, filters: Mapping[str, Sequence[str]]) -> Asked:
    """The search field and one choice for each filter with more than one value."""
    shown = {name: values for name, values in filters.items() if len(values) > 1}
    search, *rest = st.columns([2, *(1 for _ in shown)])
    text = search.text_input("Search", placeholder="text in a row", icon=":material/search:", key=f"search-{key}")
    where = []
    for column, (name, values) in zip(rest, shown.items(), strict=True):
        value = column.selectbox(formats.words(name), values, index=None, placeholder="all", key=f"{name}-{key}")
        where += [(name, str(value))] if value is not None else []
    return Asked(text or "", tuple(where))


def by_page(owner: str, artifact: str, show: Show) -> None:
    """Every row, by the number of a page."""
    key = f"page-{owner}-{artifact}"
    page = st.session_state.get(key, 1)
    found = client().rows(owner, artifact, Asked(), (page - 1) * PAGE_ROWS, PAGE_ROWS)
    if not found.total:
        st.info("There are no rows.")
        return
    if found.total > PAGE_ROWS:
        st.pagination(-(-found.total // PAGE_ROWS), key=key)
    st.caption(f"{formats.number(found.total)} row{'s' if found.total != 1 else ''}")
    show(found)


def by_search(owner: str, artifact: str, asked: Asked, show: Show) -> None:
    """Rows that were asked for, as far as one answer got; the places looked from are kept, so one can go back."""
    state = st.session_state.setdefault(f"places-{owner}-{artifact}", {})
    places: list[int] = state.setdefault(asked, [0])
    with st.spinner("Searching …"):
        found = first_found(owner, artifact, asked, places[-1])
    until = found.total if found.next is None else found.next
    st.caption(
        f"Rows {formats.number(places[-1])} to {formats.number(until)} of {formats.number(found.total)} searched: "
        f"{formats.number(len(found.rows))} found."
    )
    back, on, _ = st.columns([1, 1, 4])
    if back.button("Back", icon=":material/arrow_back:", disabled=len(places) == 1, width="stretch"):
        places.pop()
        st.rerun()
    if on.button("Search on", icon=":material/arrow_forward:", disabled=found.next is None, width="stretch"):
        places.append(until)
        st.rerun()
    if found.rows:
        show(found)


def first_found(owner: str, artifact: str, asked: Asked, place: int) -> Rows:
    """Rows from a place on: the answer of the backend, or where it found nothing, what it finds in some seconds."""
    deadline = time.monotonic() + PATIENCE_S
    found = client().rows(owner, artifact, asked, place, PAGE_ROWS)
    while not found.rows and found.next is not None and time.monotonic() < deadline:
        found = client().rows(owner, artifact, asked, found.next, PAGE_ROWS)
    return found


def table(found: Rows) -> None:
    """Rows as a table of short cells; the one that is chosen stands below it in full."""
    cells = [
        {"Row": number} | {formats.words(name): short(row[name]) for name in sorted(row, key=lambda name: name == "id")}
        for number, row in zip(found.numbers, found.rows, strict=True)
    ]
    event = st.dataframe(
        cells, hide_index=True, height="content", on_select="rerun", selection_mode="single-row",
        key=f"chosen-{found.numbers}",
    )  # fmt: skip
    chosen = event.selection.rows
    if not chosen:
        st.caption("Tick a row to see it in full.")
        return
    in_full(found.rows[chosen[0]])


def short(value: Any) -> str:
    """A value in a cell: its first words, without line breaks."""
    text = " ".join(formats.brief(value).split())
    return text if len(text) <= CELL_CHARACTERS else f"{text[:CELL_CHARACTERS]}…"


def in_full(row: Mapping[str, Any]) -> None:
    """One row: short values in a line, long texts below one another, as they are."""
    long = {name: value for name, value in row.items() if isinstance(value, str) and len(value) > 60}
    rest = {name: value for name, value in row.items() if name not in long and value not in ("", None, [], {})}
    with st.container(border=True):
        st.caption(" · ".join(f"{formats.words(name)} {formats.brief(value)}" for name, value in rest.items()))
        for name, value in long.items():
            st.markdown(f"**{formats.words(name)}**")
            st.code(value, language=None, wrap_lines=True)

"""Knowledge: search the passages of a store, and walk its graph from entity to entity."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.knowledge import Found, Graph, chart, counts_text, evidence_rows, nodes_of, passage_html
from dashboard.login import client
from dashboard.schemas import Job
from dashboard.ui import errors_shown

PASSAGES = 8
DEPTHS = (1, 2, 3)
GRAPH_HEIGHT = 560
ENTITY = "entity"


def choose_store() -> Job | None:
    jobs = sorted(client().jobs(), key=lambda job: -(job.finished or 0))
    found = {job.id: job for job in jobs if job.kind == "knowledge" and job.state == "succeeded"}
    if not found:
        st.info("No knowledge job has finished yet; it makes a store of what a clean job kept.", icon=":material/info:")
        return None
    chosen = st.selectbox(
        "Store", list(found), key="id", bind="query-params", width=420,
        format_func=lambda id: f"{found[id].name} · {formats.ago(found[id].finished)} · {id[:8]}",
    )  # fmt: skip
    return found[chosen]


@st.cache_data(max_entries=200, show_spinner="Searching …")
def found_in(job: str, query: str, _client: Any) -> Found:
    """A store never changes."""
    found: Found = _client.search(job, query, PASSAGES)
    return found


@st.cache_data(max_entries=200, show_spinner="Looking around …")
def graph_of(job: str, entity: str, depth: int, to: str, _client: Any) -> Graph:
    found: Graph = _client.graph(job, entity, depth, to)
    return found


def walk_to(name: str) -> None:
    st.session_state[ENTITY] = name
    st.session_state["to"] = ""


def entity_buttons(label: str, names: tuple[str, ...], key: str) -> None:
    """Names, each a step to the graph around it."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(label, width="content")
        for name in names:
            st.button(name, key=f"{key}-{name}", on_click=walk_to, args=(name,), width="content")


def passages(job: Job) -> None:
    query = st.text_input(
        "Search", key="query", bind="query-params", icon=":material/search:", placeholder="words of a question"
    )
    if not query:
        st.caption("Passages are ranked by BM25; the words that were found are marked.")
        return
    found = found_in(job.id, query, client())
    if not found.terms:
        st.info("The query holds nothing but stop words; name what it is about.")
        return
    if found.entities:
        entity_buttons("Entities", found.entities[:6], "found")
    if not found.passages:
        st.info("No passage has any of these words.")
    for passage in found.passages:
        with st.container(border=True):
            st.markdown(f"**{passage.title}** :gray[· {passage.source} · score {passage.score:.1f}]")
            st.html(passage_html(passage.text, found.terms))
            st.caption(f"document {passage.document}, from character {formats.number(passage.start)}")


def walked(key: str, names: list[str]) -> Callable[[], None]:
    """What happens when a node is chosen: the graph moves on to it."""

    def walk() -> None:
        for group in st.session_state[key].selection.selected:
            if group["data_type"] != "edge":
                walk_to(names[group["data_indices"][0]])

    return walk


def graph(job: Job) -> None:
    name, steps, other = st.columns([2.2, 1.6, 2], vertical_alignment="bottom")
    entity = name.text_input("Entity", key=ENTITY, bind="query-params", placeholder="the name of one thing, any case")
    depth = steps.segmented_control("Steps", DEPTHS, default=1, required=True, key="depth", bind="query-params")
    to = other.text_input("Path to", key="to", bind="query-params", placeholder="another one")
    if not entity:
        st.caption("Name an entity, or take one that a search has found; a click on a node walks on to it.")
        return
    found = graph_of(job.id, entity, int(depth or 1), to or "", client())
    if not found.triples:
        st.info(f"No path of six steps leads from '{entity}' to '{to}'." if to else f"Nobody here knows '{entity}'.")
        if found.like:
            entity_buttons("Perhaps", found.like[:6], "like")
        return
    key = f"graph-{job.id}-{found.entity}-{depth}-{to}"
    names = list(nodes_of(found).values())
    with st.container(border=True):
        st.echarts_chart(
            chart(found), height=GRAPH_HEIGHT, key=key, on_select=walked(key, names),
            alt=f"{len(names)} entities around {found.entity}",
        )  # fmt: skip
    st.dataframe(evidence_rows(found.triples), hide_index=True, height=280)


def page() -> None:
    st.title("Knowledge")
    job = choose_store()
    if job is None:
        return
    st.caption(counts_text(client().result(job.id)))
    left, right = st.columns([1, 1.25], gap="large")
    for column, part in ((left, passages), (right, graph)):
        with column, errors_shown():
            part(job)


if __name__ == "__main__":
    page()

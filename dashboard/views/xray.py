"""Sample X-ray: one training row, its tokens with their loss mask, its documents, and the steps that used it."""

import random
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.data_schemas import Draw, PackedRow
from dashboard.data_sections import SOURCES_OF_TOKENS
from dashboard.login import client
from dashboard.schemas import Job
from dashboard.xray import row_html, share_counted

SPLITS = ("train", "heldout")


def choose_run(jobs: list[Job]) -> Job | None:
    found = {job.id: job for job in jobs if job.kind == "tokenize" and job.state == "succeeded"}
    if not found:
        st.info("No tokenize run has finished yet; its rows are what training sees.", icon=":material/info:")
        return None
    chosen = st.selectbox(
        "Tokenize run", list(found), key="id", bind="query-params",
        format_func=lambda id: f"{found[id].name} · {formats.ago(found[id].finished)} · {id[:8]}",
    )  # fmt: skip
    return found[chosen]


def choose_row(result: Mapping[str, Any]) -> tuple[str, str, int]:
    """Source, split and number of a row, which may be drawn at random."""
    sources = [name for name in SOURCES_OF_TOKENS if name in result]
    source = st.segmented_control(
        "Source", sources, default=sources[0], required=True, key="source", bind="query-params"
    )
    split = st.segmented_control("Split", SPLITS, default="train", required=True, key="split", bind="query-params")
    rows = int(result[source][split]["rows"])
    if rows == 0:
        return str(source), str(split), -1
    key = f"row-{source}-{split}"
    number, dice = st.columns([2, 1], vertical_alignment="bottom")
    if dice.button("Random", icon=":material/casino:", shortcut="N", width="stretch"):
        st.session_state[key] = random.randrange(rows)
    row = number.number_input(f"Row, of {formats.number(rows)}", min_value=0, max_value=rows - 1, key=key)
    return str(source), str(split), int(row)


def choose_training(jobs: list[Job], tokenized: Job) -> str | None:
    """A run that trained on these rows."""
    same = {job.id for job in jobs if job.kind == "tokenize" and job.run_folder == tokenized.run_folder}
    found = {job.id: job for job in jobs if job.kind == "sft" and job.inputs.get("dataset") in same and job.started}
    return st.selectbox(
        "Used by", list(found), index=0 if found else None, placeholder="no training run",
        format_func=lambda id: f"{found[id].name} · {id[:8]}", help="An sft run that trained on these rows.",
    )  # fmt: skip


@st.cache_data(max_entries=200, show_spinner="Taking the row apart …")
def inspected(job: str, source: str, split: str, row: int, training: str | None, steps: int, _client: Any) -> PackedRow:
    """A row never changes; what drew it does while the training goes on, so its `steps` belong to the key."""
    found: PackedRow = _client.inspect(job, source, split, row, training)
    return found


def documents(row: PackedRow) -> None:
    st.subheader("Documents")
    rows = [
        {
            "Document": number, "Kind": document.kind, "Source": document.source or "–",
            "Licence": document.license or "–", "Language": document.language or "–",
            "Rules passed": ", ".join(document.rules_passed) or "–", "Id": document.id,
        }
        for number, document in enumerate(row.documents, start=1)
    ]  # fmt: skip
    st.dataframe(rows, hide_index=True, height="content")


def drawn(draws: tuple[Draw, ...]) -> None:
    """The steps that used the row, by phase."""
    st.subheader("Used by training")
    if not draws:
        st.caption("No step of this run has drawn the row.")
    for phase, found in groupby(draws, key=lambda draw: draw.phase):
        steps = ", ".join(formats.number(draw.step) for draw in found)
        st.markdown(f"Phase **{phase}** · step {steps}")


def show(row: PackedRow) -> None:
    real = [token for token in row.tokens if token.segment]
    st.caption(
        f"{len(real)} tokens and {len(row.tokens) - len(real)} of padding in {len(row.documents)} documents; "
        f"{formats.percent(share_counted(row.tokens))} of them count in the loss: green ones do, grey ones are only "
        "read. Point at a token for its id."
    )
    with st.container(border=True):
        st.html(row_html(row))
    documents(row)
    if row.drawn is not None:
        drawn(row.drawn)


def page() -> None:
    st.title("Sample X-ray")
    jobs = client().jobs()
    main, side = st.columns([2.6, 1], gap="large")
    with side:
        job = choose_run(jobs)
        if job is None:
            return
        source, split, number = choose_row(client().result(job.id))
        training = choose_training(jobs, job) if split == "train" else None
    with main:
        if number < 0:
            st.info("There are no rows of this source in this split.")
            return
        steps = next((other.step for other in jobs if other.id == training), 0)
        show(inspected(job.id, source, split, number, training, steps, client()))


if __name__ == "__main__":
    page()

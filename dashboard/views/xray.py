"""Sample X-ray: one training row, its tokens with their loss mask, its documents, and the steps that used it."""

import random
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.client import ClientError
from dashboard.data_schemas import Draw, PackedRow
from dashboard.data_sections import SOURCES_OF_TOKENS
from dashboard.login import client
from dashboard.schemas import Job
from dashboard.ui import errors_shown
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
    if st.button("Random row", icon=":material/casino:", shortcut="N", width="stretch"):
        st.session_state[key] = random.randrange(rows)
    row = st.number_input(f"Row, of {formats.number(rows)}", min_value=0, max_value=rows - 1, key=key)
    return str(source), str(split), int(row)


def choose_training(jobs: list[Job], tokenized: Job) -> Job | None:
    """A run that trained on these rows."""
    same = {job.id for job in jobs if job.kind == "tokenize" and job.run_folder == tokenized.run_folder}
    found = {job.id: job for job in jobs if job.kind == "sft" and job.inputs.get("dataset") in same and job.started}
    chosen = st.selectbox(
        "Used by", list(found), index=0 if found else None, placeholder="no training run",
        format_func=lambda id: f"{found[id].name} · {id[:8]}", help="An sft run that trained on these rows.",
    )  # fmt: skip
    return found[chosen] if chosen else None


def choose_by_step(training: Job) -> None:
    """The rows that one of its steps drew, each a way to that row."""
    step = st.number_input(
        "Rows of step", min_value=1, max_value=max(training.step, 1), value=None, key=f"step-{training.id}",
        placeholder=f"1 to {formats.number(training.step)}",
    )  # fmt: skip
    if step is None:
        return
    found = client().rows_of_step(training.id, int(step))
    rows = [(source, row) for source, drawn in found.rows.items() for row in drawn]
    key = f"drawn-{training.id}-{step}"
    st.selectbox(
        f"Drawn in phase {found.phase}", rows, index=None, key=key, on_change=go_to_chosen, args=(key,),
        placeholder=f"{len(rows)} rows", format_func=lambda place: f"{place[0]}, row {formats.number(place[1])}",
    )  # fmt: skip


def go_to_chosen(key: str) -> None:
    """Show the row that was chosen among those of a step."""
    if (chosen := st.session_state[key]) is not None:
        source, row = chosen
        st.session_state.update({"source": source, "split": "train", f"row-{source}-train": row})


@st.cache_data(max_entries=200, show_spinner="Taking the row apart …")
def inspected(job: str, source: str, split: str, row: int, training: str | None, steps: int, _client: Any) -> PackedRow:
    """A row never changes; what drew it does while the training goes on, so its `steps` belong to the key."""
    found: PackedRow = _client.inspect(job, source, split, row, training)
    return found


def documents(row: PackedRow) -> None:
    st.subheader("Documents")
    for document in row.documents:
        facts = [document.kind, f"from {document.source or 'an unknown source'}", document.language]
        with st.container(border=True):
            st.markdown(f"**Segment {document.segment}** · {' · '.join(fact for fact in facts if fact)}")
            st.caption(
                f"Licence: {document.license or 'not stated'}  \n"
                f"Not dropped as: {', '.join(document.rules_passed) or '–'}"
            )
            st.caption(" · ".join([*([formats.brief(document.meta)] if document.meta else []), f"id {document.id}"]))


def drawn(draws: tuple[Draw, ...]) -> None:
    """The steps that used the row, by phase."""
    st.subheader("Used by training")
    if not draws:
        st.caption("No step of this run has drawn the row.")
    for phase, found in groupby(draws, key=lambda draw: draw.phase):
        steps = [formats.number(draw.step) for draw in found]
        st.markdown(f"Phase **{phase}** · step{'s' if len(steps) > 1 else ''} {', '.join(steps)}")


def show(row: PackedRow, context: int) -> None:
    st.caption(
        f"{formats.number(len(row.tokens))} tokens, {formats.number(context - len(row.tokens))} of padding. "
        f"{formats.percent(share_counted(row.tokens))} of the tokens count in the loss: green ones do, grey ones are "
        "only read. Point at a token for its id."
    )
    with st.container(border=True):
        st.html(row_html(row))
    documents(row)


def look(job: Job, place: tuple[str, str, int], training: Job | None, context: int) -> None:
    """The row, and what drew it; a training that kept no record of that is said, and the row shown all the same."""
    if training is not None:
        try:
            row = inspected(job.id, *place, training.id, training.step, client())
        except ClientError as error:
            if error.status != 422:
                raise
            st.warning(str(error), icon=":material/warning:")
        else:
            show(row, context)
            drawn(row.drawn)
            return
    show(inspected(job.id, *place, None, 0, client()), context)


def page() -> None:
    st.title("Sample X-ray")
    jobs = client().jobs()
    main, side = st.columns([2.6, 1], gap="large")
    with side:
        job = choose_run(jobs)
        if job is None:
            return
        result = client().result(job.id)
        place = choose_row(result)
        training = choose_training(jobs, job) if place[1] == "train" else None
        if training is not None:
            with errors_shown():
                choose_by_step(training)
    with main:
        if place[2] < 0:
            st.info("There are no rows of this source in this split.")
            return
        look(job, place, training, int(result["context"]))


if __name__ == "__main__":
    page()

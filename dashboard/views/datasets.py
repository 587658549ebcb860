"""Data: what a job read, dropped and kept, what it is made of, where it comes from and what used it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.data_schemas import Dataset, Rows
from dashboard.data_sections import charts, drops, lineage_section, mixture
from dashboard.login import client
from dashboard.problems import problem
from dashboard.results import anything
from dashboard.rows import preview, table
from dashboard.schemas import DATA_KINDS, Job
from dashboard.ui import badge, heading
from dashboard.uploads import upload_section

SPLITS = ("train", "rl", "heldout")
DOMAINS = ("code", "science", "multilingual", "general")
Section = Callable[[], None]


def documents(job: Job, result: Mapping[str, Any]) -> None:
    """Documents, with what they can be filtered by."""
    filters = {"domain": DOMAINS} | {name: list(result.get(f"{name}s", {})) for name in ("language", "source")}
    preview(f"jobs/{job.id}", "documents", filters, table)


def problems(owner: str, families: Sequence[str]) -> None:
    """Problems of one split, as rows or the way a reviewer sees them."""
    split, look = st.columns([1, 1], vertical_alignment="bottom")
    chosen = split.segmented_control("Split", SPLITS, default="train", required=True, key="split", bind="query-params")
    written_out = look.toggle("Written out", value=True, help="Each problem as a reviewer sees it, or a table.")
    show = problems_in_full if written_out else table
    preview(owner, f"problems/{chosen}.jsonl", {"family": families, "level": ["1", "2", "3", "4", "5"]}, show)


def problems_in_full(found: Rows) -> None:
    for row in found.rows:
        with st.container(border=True):
            problem(row)


def job_sections(job: Job, result: Mapping[str, Any]) -> dict[str, Section]:
    """The sections of a job by name, the most looked for first."""
    owner, counts = f"jobs/{job.id}", {"Counts": lambda: anything(result)}
    families = sorted(result.get("families", {}).get("train", {}))
    relations = {"relation": list(result.get("relations", {}))}
    by_kind: dict[str, dict[str, Section]] = {
        "clean": {
            "Preview": lambda: documents(job, result), "Drops": lambda: drops(result), "Charts": lambda: charts(result)
        },
        "subset": {"Preview": lambda: documents(job, result)} | counts,
        "knowledge": {"Preview": lambda: preview(owner, "knowledge/triples.jsonl", relations, table)} | counts,
        "synthesize": {"Preview": lambda: problems(owner, families), "Charts": lambda: charts(result)},
        "tokenize": {"Mixture": lambda: mixture(job.spec, result)},
    }  # fmt: skip
    return by_kind[job.kind] | {"Lineage": lambda: lineage_section(job.id)}


def show_sections(sections: Mapping[str, Section]) -> None:
    names = list(sections)
    chosen = st.segmented_control(
        "Section", names, default=names[0], required=True, key="section", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    sections[chosen if chosen in sections else names[0]]()


def job_page(job: Job) -> None:
    with heading(job.name, job.state):
        st.page_link("views/run.py", label="Its run", icon=":material/monitoring:", query_params={"id": job.id})
        if job.kind == "tokenize":
            st.page_link("views/xray.py", label="X-ray", icon=":material/frame_inspect:", query_params={"id": job.id})
        if job.kind == "synthesize":
            st.page_link("views/review.py", label="Review", icon=":material/rule:", query_params={"job": job.id})
    st.caption(f"{job.kind} · finished {formats.ago(job.finished)}")
    if job.state != "succeeded":
        st.info("Its data can be seen once the run has succeeded.", icon=":material/hourglass_empty:")
        return
    show_sections(job_sections(job, client().result(job.id)))


def dataset_page(dataset: Dataset) -> None:
    st.title(dataset.id)
    counts = dataset.about.get("counts", {})
    facts = [f"frozen {formats.ago(dataset.created)}", f"{formats.number(dataset.rows)} rows"]
    st.caption(" · ".join(facts + [f"{formats.number(count)} {name}" for name, count in counts.items()]))
    if dataset.kind == "reviewed":
        st.markdown("A recipe's job reads it as the input `problems`:")
        st.code(f'inputs = {{ problems = "dataset:{dataset.id}" }}', language="toml")
    owner, lineage = f"datasets/{dataset.id}", {"Lineage": lambda: lineage_section(dataset.id)}
    rows = (lambda: problems(owner, [])) if dataset.kind == "reviewed" else lambda: preview(owner, "labels", {}, table)
    show_sections({"Preview": rows} | lineage)


def all_data() -> None:
    """What jobs made, and what was frozen."""
    st.title("Datasets")
    with st.expander("Files of your own", icon=":material/upload_file:"):
        st.caption("A pipeline's clean job reads those that are chosen when it starts.")
        upload_section()
    jobs = [job for job in client().jobs() if job.kind in DATA_KINDS]
    if not jobs:
        st.info("No data yet. Start a pipeline first.", icon=":material/info:")
    for job in sorted(jobs, key=lambda job: -job.created)[:50]:
        name, state, when = st.columns([4, 2, 2], vertical_alignment="center")
        with name:
            stage = "" if job.kind == job.name else f" · {job.kind}"
            label = f"**{job.name}**{stage} · {job.id[:8]}"
            st.page_link("views/datasets.py", label=label, query_params={"id": job.id})
        with state:
            badge(job.state)
        when.caption(formats.ago(job.finished or job.created))
    if frozen := client().datasets():
        st.subheader("Frozen", help="Immutable, named by the hash of what they hold.")
        for dataset in frozen:
            name, rows, when = st.columns([4, 2, 2], vertical_alignment="center")
            with name:
                st.page_link("views/datasets.py", label=f"**{dataset.id}**", query_params={"id": dataset.id})
            rows.caption(f"{formats.number(dataset.rows)} rows")
            when.caption(formats.ago(dataset.created))


def page() -> None:
    wanted = st.query_params.get("id")
    if not wanted:
        all_data()
        return
    st.page_link("views/datasets.py", label="All data", icon=":material/arrow_back:")
    frozen = {dataset.id: dataset for dataset in client().datasets()}
    if wanted in frozen:
        dataset_page(frozen[wanted])
        return
    job = client().job(wanted)
    if job.kind in DATA_KINDS:
        job_page(job)
    else:
        st.info(f"{job.name} ({job.kind}) leaves no data; look at its run.")


if __name__ == "__main__":
    page()

"""Pipelines: start one from a recipe, and the list of all."""

from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.login import client
from dashboard.schemas import Pipeline
from dashboard.ui import REFRESH_S, badge, errors_shown, flash
from dashboard.uploads import choose_uploads
from trainer.spec import CleanSpec, ImportSpec, Recipe, TrainingBase

PAGE_SIZE = 12

Fields = dict[str, dict[str, Any]]  # job -> field -> value


def start_form() -> None:
    """Choose a recipe, see its jobs, name what it imports, change steps, start."""
    names = client().recipes()
    if not names:
        st.info("The backend ships no recipes.")
        return
    name = st.selectbox("Recipe", names, index=names.index("nano") if "nano" in names else 0)
    recipe = client().recipe(name)
    if recipe.description:
        st.caption(recipe.description)
    jobs_table(recipe)
    # Enter in a number field only ends the typing: what it would start may take days.
    with st.form("start", border=False, enter_to_submit=False):
        wanted = together(source_inputs(recipe), upload_inputs(recipe), problem_inputs(recipe), steps_inputs(recipe))
        reuse = st.toggle(
            "Reuse unchanged jobs",
            value=True,
            help="Jobs whose spec, inputs and code are those of an earlier run take its result.",
        )
        sent = st.form_submit_button("Start pipeline", type="primary", icon=":material/play_arrow:")
    if sent:
        pipeline = client().start_pipeline(name, overrides(recipe, wanted), reuse)
        flash(f"Pipeline {pipeline.name} started.")
        st.switch_page("views/pipeline.py", query_params={"id": pipeline.id})


def jobs_table(recipe: Recipe) -> None:
    rows = [
        {
            "Job": job.name,
            "Stage": job.kind,
            "Reads": ", ".join(f"{role} ← {source}" for role, source in job.inputs.items()) or "–",
            "Steps": job.steps if isinstance(job, TrainingBase) else None,
        }
        for job in recipe.jobs
    ]
    with st.expander(f"{len(rows)} jobs", icon=":material/list:"):
        st.dataframe(rows, hide_index=True, height="content")


def source_inputs(recipe: Recipe) -> Fields:
    """One text field for each job that imports a checkpoint."""
    return {
        job.name: {
            "source": st.text_input(
                f"Source of {job.name}",
                value=job.source,
                key=f"{recipe.name}-{job.name}",
                help="A folder in Hugging Face's layout or a .gguf file, on the machine that runs the backend.",
            )
        }
        for job in recipe.jobs
        if isinstance(job, ImportSpec)
    }


def upload_inputs(recipe: Recipe) -> Fields:
    """For each job that cleans: which uploaded files it reads too."""
    return {
        job.name: {"uploads": tuple(choose_uploads(f"{recipe.name}-{job.name}-uploads"))}
        for job in recipe.jobs
        if isinstance(job, CleanSpec)
    }


def problem_inputs(recipe: Recipe) -> Fields:
    """One choice for all jobs that read problems: those the recipe makes, or ones that people reviewed."""
    readers = [job for job in recipe.jobs if "problems" in job.inputs]
    reviewed = {dataset.id: dataset for dataset in client().datasets() if dataset.kind == "reviewed"}
    if not readers or not reviewed:
        return {}
    chosen = st.selectbox(
        "Problems", list(reviewed), index=None, placeholder="as the recipe makes them", key=f"{recipe.name}-problems",
        format_func=lambda id: f"{id} · {formats.number(reviewed[id].rows)} problems",
    )  # fmt: skip
    return {job.name: {"inputs": job.inputs | {"problems": f"dataset:{chosen}"}} for job in readers} if chosen else {}


def together(*parts: Fields) -> Fields:
    """The fields of every part, job by job."""
    merged: Fields = {}
    for part in parts:
        for name, fields in part.items():
            merged.setdefault(name, {}).update(fields)
    return merged


def steps_inputs(recipe: Recipe) -> Fields:
    """One number field for each job that trains."""
    training = [job for job in recipe.jobs if isinstance(job, TrainingBase)]
    if not training:
        return {}
    st.caption("Steps")
    grid = st.grid("auto", min_column_width=160)
    return {
        job.name: {
            "steps": int(
                grid.number_input(f"Steps of {job.name}", min_value=1, value=job.steps, key=f"{recipe.name}-{job.name}")
            )
        }
        for job in training
    }


def overrides(recipe: Recipe, wanted: Fields) -> Fields:
    """Only what differs from the recipe, so that unchanged jobs keep the recipe's spec."""
    jobs = {job.name: job for job in recipe.jobs}
    changed = {
        name: {field: value for field, value in fields.items() if value != getattr(jobs[name], field)}
        for name, fields in wanted.items()
    }
    return {name: fields for name, fields in changed.items() if fields}


@st.fragment(run_every=REFRESH_S * 2)
def pipeline_list() -> None:
    with errors_shown():
        found = sorted(client().pipelines(), key=lambda pipeline: -pipeline.created)
        if not found:
            st.info("No pipeline yet. Choose a recipe above and start the first one.", icon=":material/info:")
            return
        page_count = -(-len(found) // PAGE_SIZE)
        page = st.pagination(page_count, key="page", bind="query-params") if page_count > 1 else 1
        for pipeline in found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]:
            pipeline_row(pipeline)


def pipeline_row(pipeline: Pipeline) -> None:
    done = sum(job.state == "succeeded" for job in pipeline.whole_jobs)
    current = next((job for job in pipeline.jobs if job.state in ("running", "failed")), None)
    with st.container(border=True):
        name, state, progress, doing, when = st.columns([3, 2, 3, 3, 2], vertical_alignment="center")
        with name:
            st.page_link(
                "views/pipeline.py", label=f"**{pipeline.name}** · {pipeline.id[:8]}", query_params={"id": pipeline.id}
            )
        with state:
            badge(pipeline.state)
        whole = len(pipeline.whole_jobs)
        progress.progress(done / max(whole, 1), text=f"{done} of {whole} jobs")
        doing.caption(f"{current.name} {current.state}" if current else "")
        when.caption(formats.ago(pipeline.created), help=formats.clock(pipeline.created))


def page() -> None:
    st.title("Pipelines")
    with st.container(border=True):
        st.subheader("Start a pipeline")
        with errors_shown():
            start_form()
    st.subheader("All pipelines")
    pipeline_list()


if __name__ == "__main__":
    page()

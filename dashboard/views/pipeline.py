"""One pipeline: its jobs in order, live, and what the evaluations said."""

import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.evaluation import evaluation_rows
from dashboard.login import client
from dashboard.schemas import Job, Pipeline
from dashboard.ui import REFRESH_S, badge, elapsed, errors_shown, flash, heading, progress_text


def header(pipeline: Pipeline) -> None:
    with heading(pipeline.name, pipeline.state):
        if pipeline.active and st.button("Cancel pipeline", icon=":material/stop_circle:"):
            client().cancel_pipeline(pipeline.id)
            flash("Cancelling; the running job saves a checkpoint first.")
            st.rerun()
    done = sum(job.state == "succeeded" for job in pipeline.whole_jobs)
    left = [job.seconds_left for job in pipeline.jobs if job.state == "running" and job.seconds_left is not None]
    parts = [f"Started {formats.ago(pipeline.created)}", f"{done} of {len(pipeline.whole_jobs)} jobs done"]
    parts += [f"about {formats.duration(left[0])} left in the running job"] if left else []
    st.caption(" · ".join(parts))


def job_row(job: Job, now: float, blocked: bool, parts: Sequence[Job] = ()) -> None:
    name, state, progress, spent, action = st.columns([3, 2, 4, 1.6, 1.4], vertical_alignment="center")
    with name:
        st.page_link("views/run.py", label=f"**{job.name}** · {job.kind}", query_params={"id": job.id})
    with state:
        badge(job.state)
    if parts and job.state in ("waiting", "queued"):
        done = sum(part.state == "succeeded" for part in parts)
        share = sum(part.progress for part in parts) / (len(parts) + 1)  # what is left is to put them together
        progress.progress(share, text=f"{done} of {len(parts)} parts done")
    elif job.state == "running":
        progress.progress(job.progress, text=progress_text(job))
    elif job.state == "succeeded":
        progress.progress(1.0)
    else:
        progress.caption(job.error or job.message)
    spent.caption(elapsed(job, now))
    with action:
        job_action(job, blocked)


def part_rows(parts: Sequence[Job], now: float, lost: set[str]) -> None:
    """The parts of a job, folded away while nothing is wrong with them."""
    failed = any(part.state == "failed" for part in parts)
    with st.expander(f"{len(parts)} parts", expanded=failed, icon=":material/account_tree:"):
        for part in parts:
            job_row(part, now, blocked=bool(lost & set(part.inputs.values())))


def job_action(job: Job, blocked: bool) -> None:
    """Cancel what is not done, retry what did not succeed. A blocked one waits for the retry of what it reads from."""
    if job.active and st.button(
        "Cancel", key=f"cancel-{job.id}", type="tertiary", help=f"Stop {job.name} with a checkpoint"
    ):
        client().cancel_job(job.id)
        flash(f"Cancelling {job.name}.")
        st.rerun()
    if (
        job.state in ("failed", "cancelled")
        and not blocked
        and st.button("Retry", key=f"retry-{job.id}", help=f"Queue {job.name} again")
    ):
        client().retry_job(job.id)
        flash(f"{job.name} is queued again.")
        st.rerun()


@st.cache_data(max_entries=500, show_spinner=False)
def finished_result(job_id: str, attempt: int, _client: Any) -> dict[str, Any]:
    """The result of a finished job never changes, so it is asked for once."""
    result: dict[str, Any] = _client.result(job_id)
    return result


def evaluation_table(pipeline: Pipeline) -> None:
    done = [job for job in pipeline.jobs if job.kind == "evaluate" and job.state == "succeeded"]
    if not done:
        return
    st.subheader("Evaluation after each stage")
    results = [(job.name, finished_result(job.id, job.attempt, client())) for job in done]
    st.dataframe(evaluation_rows(results), hide_index=True, height="content")
    st.caption("Exact match on held-out problems. Intervals are 95 %; differences are paired problem by problem.")


def live(pipeline_id: str, was_active: bool) -> None:
    """Everything that changes while the pipeline goes on."""
    with errors_shown():
        pipeline = client().pipeline(pipeline_id)
        if was_active and not pipeline.active:
            st.rerun()
        header(pipeline)
        now = time.time()
        lost = {job.id for job in pipeline.jobs if job.state in ("failed", "cancelled")}
        with st.container(border=True):
            for job in pipeline.whole_jobs:
                parts = pipeline.parts(job)
                others = set(job.inputs.values()) - {part.id for part in parts}
                job_row(job, now, blocked=bool(lost & others), parts=parts)
                if parts:
                    part_rows(parts, now, lost)
        evaluation_table(pipeline)


def page() -> None:
    pipeline_id = st.query_params.get("id")
    st.page_link("views/pipelines.py", label="All pipelines", icon=":material/arrow_back:")
    if not pipeline_id:
        st.info("No pipeline is chosen; open one from the list.")
        return
    active = client().pipeline(pipeline_id).active
    st.fragment(live, run_every=REFRESH_S if active else None)(pipeline_id, active)


if __name__ == "__main__":
    page()

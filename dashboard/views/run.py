"""One job: state, live curves, log, result, artifacts and spec; another run can be laid over it."""

import time

import streamlit as st

from dashboard import formats
from dashboard.artifacts import artifact_section
from dashboard.charts import curve_grid
from dashboard.client import ClientError
from dashboard.curves import Curves
from dashboard.data_sections import charts, drops
from dashboard.login import client
from dashboard.results import anything, show_result
from dashboard.schemas import DATA_KINDS, Job
from dashboard.ui import REFRESH_S, badge, elapsed, errors_shown, flash, heading, progress_text

SECTIONS = ["Curves", "Result", "Log", "Artifacts", "Spec"]
TRAINING = {"sft", "reward", "dpo", "rlhf"}
LOG_CHARACTERS = 40_000
# A run of 100,000 steps comes in several answers; no refresh takes more than this many.
BATCHES = 20


def curves_of(job: Job) -> Curves:
    """What is known of a job's metrics, with what came since the last look. A new attempt starts afresh."""
    kept: dict[str, Curves] = st.session_state.setdefault("curves", {})
    curves = kept.get(job.id)
    if curves is None or curves.attempt != job.attempt:
        curves = kept[job.id] = Curves(attempt=job.attempt)
    for _ in range(BATCHES):
        metrics = client().metrics(job.id, curves.next)
        curves.add(metrics.rows, metrics.next)
        if not metrics.rows:
            break
    return curves


def header(job: Job) -> None:
    with heading(job.name, job.state):
        actions(job)
    facts = [f"stage {job.kind}"] + ([f"attempt {job.attempt}"] if job.attempt > 1 else [])
    facts += [f"created {formats.ago(job.created)}"]
    facts += [f"took {elapsed(job, time.time())}"] if job.finished and not job.reused_from else []
    facts += [f"result of run {job.reused_from[:8]}, reused"] if job.reused_from else []
    st.caption(" · ".join(facts))
    if job.state == "running":
        st.progress(job.progress, text=progress_text(job))
    if job.error or job.state == "failed":
        st.error(job.error or job.message, icon=":material/error:")
    elif job.message and job.state not in ("running", "succeeded"):
        st.caption(job.message)


def actions(job: Job) -> None:
    if job.active and st.button("Cancel run", icon=":material/stop_circle:"):
        client().cancel_job(job.id)
        flash("Cancelling; the run saves a checkpoint first.")
        st.rerun()
    if job.state in ("failed", "cancelled") and st.button("Retry run", icon=":material/replay:"):
        client().retry_job(job.id)
        flash("The run is queued again.")
        st.rerun()


def curves_section(job: Job, other: Job | None) -> None:
    curves = curves_of(job)
    if not curves.values:
        st.info("No metrics yet; they appear with the first step." if job.active else "This run recorded no metrics.")
        return
    runs = {job.name: curves}
    if other is not None:
        runs[f"{other.name} ({other.id[:8]})"] = curves_of(other)
    curve_grid(runs, doctor_findings(job) if curves.expert_load() else [])


def doctor_findings(job: Job) -> list[dict[str, str]]:
    """What the expert doctor found so far; a run writes it into its result while it goes on."""
    try:
        found: list[dict[str, str]] = client().result(job.id).get("findings", [])
    except ClientError as error:
        if error.status != 404:  # a job without a result yet
            raise
        return []
    return found


def compare_choice(job: Job) -> Job | None:
    """Let another training run be laid over this one; the choice is kept in the URL by its id."""
    others = {other.id: other for other in client().jobs() if other.id != job.id and other.kind in TRAINING}
    wanted = st.query_params.get("compare")

    def label(id: str) -> str:
        return f"{others[id].name} · {formats.clock(others[id].created)} · {id[:8]}"

    index = list(others).index(wanted) if wanted in others else None
    chosen = st.selectbox(
        "Compare with",
        list(others),
        index=index,
        format_func=label,
        placeholder="another run",
        width=420,
        key="compare-with",
    )
    if chosen is None:
        st.query_params.pop("compare", None)
        return None
    st.query_params["compare"] = chosen
    return others[chosen]


def log_section(job: Job) -> None:
    """The end of the log; what was read before is kept, so a refresh asks for the rest only."""
    kept: dict[str, tuple[str, int]] = st.session_state.setdefault("logs", {})
    text, offset = kept.get(job.id, ("", -LOG_CHARACTERS))
    for _ in range(BATCHES):
        log = client().log(job.id, offset)
        text, offset = (text + log.text)[-LOG_CHARACTERS:], log.next
        if not log.text:
            break
    kept[job.id] = (text, offset)
    if text:
        with st.container(height=520, autoscroll=True, border=False):
            st.code(text, language=None, wrap_lines=True)
    else:
        st.info("The log is empty so far.")


def spec_section(job: Job) -> None:
    inputs = job.spec.get("inputs") or {}
    anything({name: value for name, value in job.spec.items() if name != "inputs"} | {"inputs": inputs})
    if job.run_folder:
        st.caption(f"Run folder: {job.run_folder}")


def result_section(job: Job) -> None:
    result = client().result(job.id) if job.state == "succeeded" else {}
    if job.kind in DATA_KINDS and result:
        st.page_link(
            "views/datasets.py", label="Look into the data", icon=":material/dataset:", query_params={"id": job.id}
        )
    if job.kind == "clean" and result:
        drops(result)
        charts(result)
    else:
        show_result(job.kind, result)


def section(name: str, job: Job, other: Job | None) -> None:
    if name == "Curves":
        curves_section(job, other)
    elif name == "Result":
        result_section(job)
    elif name == "Log":
        log_section(job)
    elif name == "Artifacts":
        artifact_section(job)
    else:
        spec_section(job)


def live(job_id: str, was_active: bool, name: str, other: Job | None) -> None:
    """What changes while the run goes on."""
    with errors_shown():
        job = client().job(job_id)
        if was_active and not job.active:
            st.rerun()
        section(name, job, other)


def live_header(job_id: str, was_active: bool) -> None:
    with errors_shown():
        job = client().job(job_id)
        if was_active and not job.active:
            st.rerun()
        header(job)


def recent_runs() -> None:
    st.title("Runs")
    jobs = sorted(client().jobs(), key=lambda job: -(job.started or job.created))[:30]
    if not jobs:
        st.info("No run yet. Start a pipeline first.", icon=":material/info:")
    for job in jobs:
        name, state, when = st.columns([4, 2, 2], vertical_alignment="center")
        with name:
            st.page_link(
                "views/run.py", label=f"**{job.name}** · {job.kind} · {job.id[:8]}", query_params={"id": job.id}
            )
        with state:
            badge(job.state)
        when.caption(formats.ago(job.started or job.created))


def page() -> None:
    job_id = st.query_params.get("id")
    if not job_id:
        recent_runs()
        return
    job = client().job(job_id)
    if job.pipeline:
        st.page_link(
            "views/pipeline.py", label="Its pipeline", icon=":material/arrow_back:", query_params={"id": job.pipeline}
        )
    every = REFRESH_S if job.active else None
    st.fragment(live_header, run_every=every)(job_id, job.active)
    first = "Curves" if job.kind in TRAINING else "Result"
    chosen = st.segmented_control(
        "Section",
        SECTIONS,
        default=first,
        required=True,
        key="section",
        bind="query-params",
        label_visibility="collapsed",
    )
    name = chosen if isinstance(chosen, str) else first
    other = compare_choice(job) if name == "Curves" and job.kind in TRAINING else None
    st.fragment(live, run_every=every if name in ("Curves", "Log") else None)(job_id, job.active, name, other)


if __name__ == "__main__":
    page()

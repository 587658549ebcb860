"""What answers under which name: deploy an export, share requests between two, roll back, and how it does right now."""

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from dashboard import formats
from dashboard.live import WINDOW_S, pace, remembered
from dashboard.login import client
from dashboard.schemas import Change, Deployment, Gate, Job, Latency, Live, LiveVersion, Version
from dashboard.ui import REFRESH_S, badge, errors_shown, flash

ACTIONS = {
    "deploy": "deployed",
    "split": "shared out",
    "rollback": "rolled back",
    "restore": "taken back by its job",
    "remove": "removed",
}
HISTORY_ROWS = 50

Names = Mapping[str, str]  # job id -> what people call it


def names_of(jobs: Sequence[Job]) -> dict[str, str]:
    """Exports have the name of their job in common; the id tells them apart."""
    return {job.id: f"{job.name} · {job.id[:8]}" for job in jobs if job.kind == "export"}


def share_text(share: float) -> str:
    return f"{100 * share:.3g} %"


def shares_text(versions: Mapping[str, float], names: Names) -> str:
    return ", ".join(f"{names.get(job, job[:8])} {share_text(share)}" for job, share in versions.items())


def doing(version: Version) -> str:
    """What becomes of requests to a version, in plain words."""
    if version.state == "failed":
        return "refused; it answers nothing"
    if version.state == "unreachable":
        return "unknown, as serving does not answer"
    if not version.weight:
        return f"still answers {share_text(version.share)} of the requests" if version.share else "kept for a rollback"
    if version.state == "loading":
        return "is being loaded and checked"
    if not version.share:
        return "waits for the other version"
    return f"answers {share_text(version.share)} of the requests"


def gate_text(gate: Gate | None) -> str:
    """How close it is to the trainer's network."""
    if gate is None:
        return ""
    lines = [f"answers in {gate.dtype}"]
    if gate.float32_difference is not None:
        lines[0] += f" · float32 differs by {formats.number(gate.float32_difference)}"
    kl, top1 = formats.number(gate.served.mean_kl), formats.percent(gate.served.top1_agreement)
    return "  \n".join([*lines, f"mean KL {kl} · top-1 agreement {top1}"])


def version_row(version: Version, names: Names) -> None:
    name, state, share, gate = st.columns([3, 2, 4, 5], vertical_alignment="center")
    with name:
        label = names.get(version.job, version.job[:8])
        st.page_link("views/run.py", label=label, query_params={"id": version.job})
    with state:
        badge(version.state)
    share.progress(min(version.share, 1.0), text=doing(version))
    gate.caption(
        gate_text(version.gate),
        help="Parity gate, against the logits the trainer recorded: KL in nats a token and agreement on the likeliest "
        "token in the numbers it answers in; the largest difference of a logit in float32."
        if version.gate
        else None,
    )
    if version.error and version.state == "failed":
        st.error(version.error, icon=":material/error:")


def act(action: Callable[[], object], done: str) -> None:
    with errors_shown():
        action()
        flash(done)
        st.rerun()


def card_head(item: Deployment, names: Names) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(item.model_name, anchor=False, width="content")
        badge(item.state)
        st.caption(f"changed {formats.ago(item.since)}", width="content")
        st.space("stretch")
        back = shares_text(item.rollback, names)
        if st.button(
            "Roll back", icon=":material/undo:", key=f"back-{item.model_name}", disabled=not back,
            help=f"Afterwards it answers with {back}." if back else "Nothing answered before.",
        ):  # fmt: skip
            act(lambda: client().roll_back(item.model_name), f"{item.model_name} answers with {back} again.")
        with st.popover("Remove", icon=":material/delete:"):
            st.markdown(f"Nothing will answer as **{item.model_name}** afterwards.")
            if st.button("Remove it", type="primary", key=f"remove-{item.model_name}"):
                act(lambda: client().remove_deployment(item.model_name), f"{item.model_name} was removed.")


def card(item: Deployment, names: Names) -> None:
    with st.container(border=True):
        card_head(item, names)
        if item.state == "unreachable":
            st.warning(item.error or "Serving does not answer.", icon=":material/link_off:")
        elif item.state != "ready":
            st.caption("What was deployed before goes on." if item.answers else "Nothing answers under this name yet.")
        for version in item.versions:
            version_row(version, names)


@st.fragment(run_every=REFRESH_S * 2)
def cards(names: Names) -> None:
    with errors_shown():
        found = client().deployments()
        if not found:
            st.info("No model is deployed yet. Choose an export below.", icon=":material/info:")
        for item in found:
            card(item, names)


# -- right now ---------------------------------------------------------------------------------------------------------


def latency_text(latency: Latency) -> str:
    median, high = (formats.latency(latency.quantile(share)) for share in (0.5, 0.99))
    return f"{median}, p99 {high}" if sum(latency.counts) else "–"


def live_row(looks: Sequence[Live], version: LiveVersion, names: Names) -> dict[str, str | int]:
    now = pace(looks, version)
    return {
        "Model": version.model_name,
        "Version": names.get(version.version, version.version[:8]),
        "Running": version.running,
        "Waiting": version.waiting,
        "Requests/s": formats.number(now.requests_per_second),
        "Tokens/s": formats.number(now.tokens_per_second),
        "First token": latency_text(now.first_token),
        "Between tokens": latency_text(now.inter_token),
        "Requests": version.requests,
        "Failed": version.failed,
        "Tokens in": version.prompt_tokens,
        "Tokens out": version.completion_tokens,
    }


@st.fragment(run_every=REFRESH_S)
def live(names: Names) -> None:
    with errors_shown():
        looks = remembered(st.session_state.get("live", []), client().live())
        st.session_state["live"] = looks
        rows = [live_row(looks, version, names) for version in looks[-1].versions]
        if not rows:
            st.caption("No model is in memory.")
            return
        st.dataframe(rows, hide_index=True, height="content")
        st.caption(
            f"Rates and times are of the last {WINDOW_S:.0f} seconds that this page was open, times as median and 99th "
            "percentile, interpolated in a histogram; requests and tokens are counted since serving started."
        )


# -- deploying and what was --------------------------------------------------------------------------------------------


def deploy_form(exports: Sequence[Job], names: Names, suggested: str) -> None:
    if not exports:
        st.info("There is no export yet. A pipeline with an export job makes one.", icon=":material/info:")
        return
    # Enter in a field only ends the typing: what it would start changes the answers of everyone.
    with st.form("deploy", border=True, enter_to_submit=False):
        what, name, share = st.columns([3, 2, 2])
        by_id = {job.id: job for job in exports}
        job = what.selectbox(
            "Export", list(by_id), format_func=lambda id: f"{names[id]} · {formats.clock(by_id[id].finished)}"
        )
        model_name = name.text_input("Model name", value=suggested, help="What clients send as `model`.")
        percent = share.number_input(
            "Share of the requests (%)", 1, 100, 100,
            help="Below 100, the version that answers now keeps the rest; a conversation stays with its version.",
        )  # fmt: skip
        sent = st.form_submit_button("Deploy", type="primary", icon=":material/rocket_launch:")
    if sent and not model_name.strip():
        st.error("Give the model a name.")
    elif sent:
        done = "Serving loads the export; what answers now goes on until it is ready."
        act(lambda: client().deploy(model_name.strip(), job, percent / 100), done)


def history_row(model_name: str, change: Change, names: Names) -> dict[str, str]:
    return {
        "When": formats.clock(change.time),
        "Model": model_name,
        "What": ACTIONS[change.action],
        "By": change.user or "a job",
        "Answers then": shares_text(change.versions, names) or "nothing",
    }


def history(found: Sequence[Deployment], names: Names) -> None:
    changes = [(item.model_name, change) for item in found for change in client().deployment_history(item.model_name)]
    newest = sorted(changes, key=lambda named: -named[1].time)[:HISTORY_ROWS]
    if not newest:
        st.caption("Nothing has been deployed.")
        return
    st.dataframe([history_row(name, change, names) for name, change in newest], hide_index=True, height="content")


def page() -> None:
    st.title("Deployments")
    with errors_shown():
        jobs, found = client().jobs(), client().deployments()
        names = names_of(jobs)
        cards(names)
        if found:
            st.subheader("Right now")
            live(names)
        st.subheader("Deploy an export")
        exports = [job for job in jobs if job.kind == "export" and job.state == "succeeded"]
        newest = sorted(exports, key=lambda job: -(job.finished or job.created))
        deploy_form(newest, names, found[0].model_name if found else "octavo")
        st.subheader("History")
        history(found, names)


if __name__ == "__main__":
    page()

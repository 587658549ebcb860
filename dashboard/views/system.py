"""The machine, its workers, what is deployed, who may come in and what they used."""

import streamlit as st

from dashboard import formats
from dashboard.login import client, current_user
from dashboard.schemas import Space, System, Worker
from dashboard.ui import REFRESH_S, badge, errors_shown

ROLES = ["member", "labeller", "admin"]


def machine(system: System) -> None:
    """What there is, and how much of it is in use."""
    st.caption(f"{system.device.name} · {system.device.cores} cores · version {system.version}")
    processor, memory, disk, queue = st.columns(4)
    processor.metric("Processor", f"{system.cpu_percent:.0f} %", border=True, height="stretch")
    memory.metric("Memory used", *used(system.memory), delta_color="off", delta_arrow="off", border=True)
    disk.metric("Disk used", *used(system.disk), delta_color="off", delta_arrow="off", border=True)
    waiting = system.queue.waiting + system.queue.queued
    queue.metric(
        "Jobs running", system.queue.running, f"{waiting} waiting", delta_color="off", delta_arrow="off", border=True
    )
    if system.queue.messages is None:
        st.error("The broker does not answer, so no job can start; look at its log.", icon=":material/error:")


def used(space: Space) -> tuple[str, str]:
    return formats.size(space.used), f"of {formats.size(space.total)}"


def workers(found: tuple[Worker, ...]) -> None:
    st.subheader("Workers")
    if not any(worker.alive for worker in found):
        st.warning("No worker is alive; jobs wait until one starts.", icon=":material/warning:")
    for worker in found:
        name, state, doing, seen = st.columns([3, 2, 3, 2], vertical_alignment="center")
        name.markdown(f"**{worker.host}** · {worker.device}")
        with state:
            badge("alive" if worker.alive else "gone")
        with doing:
            if worker.job:
                st.page_link("views/run.py", label=f"run {worker.job[:8]}", query_params={"id": worker.job})
            else:
                st.caption("idle" if worker.alive else "")
        seen.caption(f"seen {formats.ago(worker.seen)}")


@st.fragment(run_every=REFRESH_S * 2)
def live_system() -> None:
    with errors_shown():
        system = client().system()
        machine(system)
        workers(system.workers)


def deployments() -> None:
    st.subheader("Deployments")
    found = client().deployments()
    if not found:
        st.caption("No model is deployed yet.")
    for item in found:
        name, state, reason = st.columns([3, 2, 5], vertical_alignment="center")
        name.markdown(f"**{item.model_name}**")
        with state:
            badge(item.state)
        reason.caption(item.error or "")


def usage() -> None:
    st.subheader("Usage")
    rows = client().usage()
    if not rows:
        st.caption("No request has been answered yet.")
        return
    table = [
        {
            "User": row.user or row.key,
            "Model": row.model,
            "Requests": row.requests,
            "Tokens in": row.prompt_tokens,
            "Tokens out": row.completion_tokens,
        }
        for row in rows
    ]
    st.dataframe(table, hide_index=True, height="content")


def users() -> None:
    """People and their roles; an administrator adds one and sees the new key once."""
    st.subheader("Users")
    st.dataframe([{"Name": user.name, "Role": user.role} for user in client().users()], hide_index=True, width=420)
    with st.form("new_user", border=True, width=420):
        name = st.text_input("Name of the new user")
        role = st.selectbox("Role", ROLES)
        if st.form_submit_button("Add user"):
            if not name.strip():
                st.error("Give the new user a name.")
            else:
                created = client().create_user(name.strip(), str(role))
                st.success(f"Key of {created.name}, shown this once:")
                st.code(created.key, language=None)


def page() -> None:
    st.title("System")
    live_system()
    for part in (deployments, usage):
        with errors_shown():
            part()
    if current_user().role == "admin":
        with errors_shown():
            users()


if __name__ == "__main__":
    page()

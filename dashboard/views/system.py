"""The machine, its workers, what is deployed, who may come in and what they used."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.login import client, current_user
from dashboard.results import anything
from dashboard.ui import REFRESH_S, badge, errors_shown

ROLES = ["member", "labeller", "admin"]


def machine(system: Mapping[str, Any]) -> None:
    anything({name: value for name, value in system.items() if name != "workers"})


@st.fragment(run_every=REFRESH_S * 2)
def live_system() -> None:
    with errors_shown():
        machine(client().system())


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
    if rows:
        st.dataframe(
            [{formats.words(name): formats.brief(value) for name, value in row.items()} for row in rows],
            hide_index=True,
            height="content",
        )
    else:
        st.caption("No request has been answered yet.")


def users() -> None:
    """People and their roles; an administrator adds one and sees the new key once."""
    st.subheader("Users")
    st.dataframe([{"Name": user.name, "Role": user.role} for user in client().users()], hide_index=True, width=420)
    with st.form("user", border=True, width=420):
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

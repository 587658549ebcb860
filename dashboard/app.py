"""The pages and who sees which; everything else is in views/."""

from pathlib import Path
from typing import Literal

import streamlit as st

from dashboard.client import ClientError
from dashboard.login import current_user, log_out, login_page, restore
from dashboard.ui import errors_shown, show_flash

# A file of our own: a named icon would be fetched from the internet by every browser.
ICON, LOGO = (Path(__file__).with_name(name) for name in ("icon.svg", "logo.svg"))


def pages(role: str) -> dict[str, list[st.Page]]:
    """The menu. A labeller is shown labelling and reviewing only; what a role may do is for the backend to decide."""
    builder = role != "labeller"
    shown: Literal["visible", "hidden"] = "visible" if builder else "hidden"
    start = st.Page(
        "views/pipelines.py", title="Pipelines", icon=":material/account_tree:", visibility=shown, default=builder
    )
    return {
        "Train": [
            start,
            st.Page("views/pipeline.py", title="Pipeline", icon=":material/lan:", visibility="hidden"),
            st.Page("views/run.py", title="Runs", icon=":material/monitoring:", visibility=shown),
        ],
        "Data": [
            st.Page("views/datasets.py", title="Datasets", icon=":material/dataset:", visibility=shown),
            st.Page("views/xray.py", title="X-ray", icon=":material/frame_inspect:", visibility=shown),
            st.Page("views/knowledge.py", title="Knowledge", icon=":material/hub:", visibility=shown),
        ],
        "Judge": [
            st.Page("views/label.py", title="Label", icon=":material/thumbs_up_down:", default=not builder),
            st.Page("views/review.py", title="Review", icon=":material/rule:"),
        ],
        "Use": [
            st.Page("views/playground.py", title="Playground", icon=":material/forum:", visibility=shown),
            st.Page("views/deployments.py", title="Deployments", icon=":material/rocket_launch:", visibility=shown),
        ],
        "Platform": [st.Page("views/system.py", title="System", icon=":material/dns:", visibility=shown)],
    }


def logged_in() -> bool:
    try:
        return restore()
    except ClientError as error:
        if error.status == 401:
            log_out("The key of this login is no longer accepted; log in with another one.")
            return False
        st.error(str(error), icon=":material/error:")
        if st.button("Try again"):
            st.rerun()
        st.stop()


def account() -> None:
    with st.sidebar:
        user = current_user()
        st.caption(f"{user.name} · {user.role}")
        if st.button("Log out", icon=":material/logout:", type="tertiary"):
            log_out()
            st.rerun()


def main() -> None:
    st.set_page_config(page_title="Octavo", page_icon=ICON, layout="wide")
    if not logged_in():
        st.navigation(pages("member"), position="hidden")
        login_page()
        return
    st.logo(LOGO)
    page = st.navigation(pages(current_user().role))
    account()
    show_flash()
    with errors_shown():
        page.run()


if __name__ == "__main__":
    main()

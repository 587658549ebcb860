"""The forms of the review page: edit a problem, say why it is rejected, freeze what was reviewed."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.login import client
from dashboard.ui import flash

REASONS = ("wrong answer", "wrong or missing step", "unclear question", "wrong language", "too easy", "not a task")
INCLUDE = {
    "accepted": "accepted and edited ones only",
    "accepted_or_verified": "also those nobody decided but the machine verified",
}
TEXTS = {"prompt": 100, "solution": 220, "direct": 70}  # field -> height in pixels


def reject_form() -> str:
    """One button a reason, by its number; or one's own words. Empty until one was given."""
    st.markdown("**Why?**")
    columns = st.columns(3)
    for number, reason in enumerate(REASONS, start=1):
        with columns[(number - 1) % 3]:
            if st.button(formats.words(reason), shortcut=str(number), key=f"reason-{number}", width="stretch"):
                return reason
    with st.form("reason", border=False):
        words, send = st.columns([4, 1], vertical_alignment="bottom")
        given = words.text_input("In your own words")
        if send.form_submit_button("Reject", width="stretch"):
            return str(given).strip()
    return ""


def edit_form(problem: Mapping[str, Any]) -> dict[str, Any] | None:
    """The problem as it was edited, once it is saved (Ctrl and Enter)."""
    with st.form("edit", border=True, enter_to_submit=True):
        changed: dict[str, Any] = {
            name: st.text_area(formats.words(name), value=problem[name], height=height)
            for name, height in TEXTS.items()
        }
        changed["answer"] = st.text_input("Answer", value=problem["answer"])
        if "condition" in problem:
            changed["condition"] = st.text_input("What the answer has to satisfy", value=problem["condition"])
        st.caption("Wrong answers; delete a row to leave one out.")
        wrong = st.data_editor(
            list(problem["distractors"]), num_rows="dynamic", hide_index=True, key=f"wrong-{problem['id']}"
        )
        saved = st.form_submit_button("Check and save", type="primary", shortcut="Ctrl+Enter")
    return {**problem, **changed, "distractors": wrong} if saved else None


def freeze_form(job: str) -> None:
    """Make a dataset of what was reviewed, and say how a recipe reads it."""
    include = st.radio("What goes in", list(INCLUDE), format_func=INCLUDE.__getitem__)
    st.caption("Rejected problems never do. The dataset never changes; deciding more makes another one.")
    if st.button("Freeze", icon=":material/ac_unit:", width="stretch"):
        dataset = client().freeze_reviewed(job, str(include))
        flash(f"Frozen: {formats.number(dataset.rows)} problems.")
        st.switch_page("views/datasets.py", query_params={"id": dataset.id})

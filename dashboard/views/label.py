"""Judge pairs of answers, by keyboard, without knowing where they come from."""

import time
from typing import Literal

import streamlit as st

from dashboard import formats
from dashboard.login import client, current_user
from dashboard.schemas import BlindPair, Choice
from dashboard.ui import answer, flash, turns

# choice, button, key
CHOICES: tuple[tuple[Choice, str, str], ...] = (
    ("left", "A is better", "A"),
    ("right", "B is better", "B"),
    ("tie", "Tie", "T"),
    ("both_bad", "Both bad", "X"),
    ("skip", "Skip", "S"),
)
GUIDELINES = """
Choose the answer you would rather have received.

1. **Right beats wrong.** A correct final answer beats a wrong one, however well the wrong one is written.
2. **Sound steps.** Of two right answers, prefer the one whose steps are correct and can be followed.
3. **To the point.** Of two equal ones, prefer the shorter. Length alone is no merit.
4. **Harmless.** An answer with unsafe or private content loses.

*Tie*: no difference that matters. *Both bad*: neither is acceptable. *Skip*: you cannot judge it.
"""


def open_pair() -> BlindPair | None:
    """The pair on the page; it stays until it is judged, so that a rerun changes nothing."""
    pair = st.session_state.get("pair")
    if pair is None:
        pair = client().next_pair()
        st.session_state["pair"], st.session_state["pair_shown"] = pair, time.monotonic()
    return pair if isinstance(pair, BlindPair) else None


def judge(pair: BlindPair, choice: Choice, note: str) -> None:
    seconds = time.monotonic() - st.session_state["pair_shown"]
    client().label(pair, choice, round(seconds, 2), note)
    del st.session_state["pair"]
    st.rerun()


def sides(pair: BlindPair) -> None:
    left, right = st.columns(2)
    for column, title, text in ((left, "A", pair.left), (right, "B", pair.right)):
        with column, st.container(border=True, height="stretch"):
            st.markdown(f"**Answer {title}**")
            answer(text)


def buttons(pair: BlindPair) -> None:
    """One button a choice. The keys carry the pair, so a second press meant for the last pair does nothing."""
    note = st.session_state.get(f"note-{pair.id}", "")
    for column, (choice, text, key) in zip(st.columns(len(CHOICES)), CHOICES, strict=True):
        kind: Literal["primary", "secondary"] = "primary" if choice in ("left", "right") else "secondary"
        with column:
            if st.button(text, shortcut=key, key=f"{choice}-{pair.id}", type=kind, width="stretch"):
                judge(pair, choice, note)
    st.text_input("Note (optional)", key=f"note-{pair.id}")


def progress() -> None:
    summary = client().label_summary()
    st.metric("Pairs left to judge", formats.number(summary.remaining), border=True)
    st.caption(f"{formats.number(summary.mine)} judged by you · {formats.number(summary.labelled)} in all")


def import_form() -> None:
    """Put a reward job's candidate pairs into the queue."""
    jobs = {job.id: job for job in client().jobs() if job.kind == "reward" and job.state == "succeeded"}
    if not jobs:
        st.caption("Pairs come from a reward job, and none has finished yet; or save one in the playground.")
        return
    with st.form("import", border=False):
        job = st.selectbox(
            "Reward job",
            list(jobs),
            format_func=lambda id: f"{jobs[id].name} · {formats.ago(jobs[id].finished)} · {id[:8]}",
        )
        limit = st.number_input("Pairs", min_value=1, max_value=10_000, value=50)
        if st.form_submit_button("Import pairs from a reward job") and job:
            client().pairs_from_job(job, int(limit))
            st.session_state.pop("pair", None)
            flash("The pairs are in the queue.")
            st.rerun()


def page() -> None:
    st.title("Label")
    main, side = st.columns([2.3, 1], gap="large")
    with side:
        progress()
        with st.expander("Guidelines", expanded=True, icon=":material/rule:"):
            st.markdown(GUIDELINES)
        if current_user().role != "labeller":
            with st.expander("More pairs", icon=":material/playlist_add:"):
                import_form()
    with main:
        pair = open_pair()
        if pair is None:
            st.session_state.pop("pair", None)
            st.success("Nothing is left to judge. Thank you.", icon=":material/done_all:")
            return
        with st.container(border=True):
            st.caption("Question")
            turns(pair.prompt)
        sides(pair)
        buttons(pair)


if __name__ == "__main__":
    page()

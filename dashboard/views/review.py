"""Review generated problems, by keyboard: accept, edit, reject, undo, skip."""

import time
from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import formats
from dashboard.client import ClientError
from dashboard.data_schemas import Decision, ReviewItem, ReviewSummary, Split, Tally
from dashboard.login import client, current_user
from dashboard.problems import problem
from dashboard.review_forms import edit_form, freeze_form, reject_form
from dashboard.ui import errors_shown, flash

SPLITS: tuple[Split, ...] = ("train", "rl", "heldout")
GUIDELINES = """
Accept a problem that you would give a student.

1. **The question** is clear, and says all that is needed.
2. **Every step** follows from the one before; the steps are there that a student needs.
3. **The answer** is right, and in the form that was asked for.
4. **Wrong answers** come from mistakes that people make.

*Edit* what a word can mend; it is checked again. *Skip* what you cannot judge; somebody else will see it.
"""


def choose_queue() -> tuple[str, Split] | None:
    """The job and split to review; kept in the address."""
    found = {queue.job: queue for queue in client().review_queues()}
    if not found:
        st.info("No problems yet. They come from a synthesize job, and none has finished.", icon=":material/info:")
        return None
    job = st.selectbox(
        "Problems of", list(found), key="job", bind="query-params",
        format_func=lambda id: f"{found[id].name} · {formats.ago(found[id].finished)} · {id[:8]}",
    )  # fmt: skip
    split = st.segmented_control("Split", SPLITS, default="train", required=True, key="split", bind="query-params")
    return job, next(item for item in SPLITS if item == split)


def open_item(job: str, split: Split) -> ReviewItem | None:
    """The problem on the page; it stays until it is decided, so that a rerun changes nothing."""
    item = st.session_state.get("review")
    if not isinstance(item, ReviewItem) or (item.job, item.split) != (job, split):
        item = client().next_review(job, split)
        show_next(item)
    return item if isinstance(item, ReviewItem) else None


def show_next(item: ReviewItem | None) -> None:
    """What is on the page from now on; None: whatever the queue gives."""
    st.session_state.update(review=item, review_shown=time.monotonic(), review_mode="")


def decide(item: ReviewItem, decision: Decision, **fields: Any) -> None:
    seconds = round(time.monotonic() - st.session_state["review_shown"], 2)
    try:
        client().review(item, decision, seconds, **fields)
    except ClientError as error:
        if error.status == 409:  # somebody else has it now: go on with the next one
            show_next(None)
        raise
    show_next(None)
    st.rerun()


def set_mode(mode: str) -> None:
    st.session_state["review_mode"] = mode
    st.rerun()


def undo(job: str, split: Split) -> None:
    show_next(client().undo_review(job, split))
    flash("Undone; decide again.")
    st.rerun()


def buttons(item: ReviewItem) -> None:
    """One button a decision. The keys carry the problem, so a second press meant for the last one does nothing."""
    accept, edit, reject, back, skip = st.columns(5)
    key = f"{item.split}-{item.number}"
    if accept.button("Accept", shortcut="A", key=f"accept-{key}", type="primary", width="stretch"):
        decide(item, "accept")
    if edit.button("Edit", shortcut="E", key=f"edit-{key}", width="stretch"):
        set_mode("edit")
    # Streamlit keeps R for itself.
    if reject.button("Reject", shortcut="X", key=f"reject-{key}", width="stretch"):
        set_mode("reject")
    if back.button("Undo", shortcut="U", key=f"undo-{key}", width="stretch"):
        undo(item.job, item.split)
    if skip.button("Skip", shortcut="S", key=f"skip-{key}", width="stretch"):
        decide(item, "skip")


def review(item: ReviewItem) -> None:
    mode = st.session_state["review_mode"]
    if mode == "edit":
        # What the check found stands above the form, where one sees it.
        place = st.container()
        if (edited := edit_form(item.problem)) is not None:
            with place, errors_shown(), st.spinner("Checking every step …"):
                decide(item, "edit", problem=edited)
    elif mode == "reject":
        if reason := reject_form():
            decide(item, "reject", reason=reason)
    else:
        with errors_shown():
            buttons(item)
        with st.container(border=True):
            problem(item.problem)
        return
    if st.button("Back without a decision", shortcut="Esc", icon=":material/arrow_back:"):
        set_mode("")
    with st.container(border=True):
        problem(item.problem)


def progress(summary: ReviewSummary, split: Split) -> None:
    """How far the split is, what I did, and how fast."""
    here, mine = summary.splits[split], summary.mine
    st.metric("Problems left", formats.number(here.total - here.decided), border=True)
    st.progress(
        here.decided / max(here.total, 1), text=f"{formats.number(here.decided)} of {formats.number(here.total)}"
    )
    st.caption(f"You: {mine.accept} accepted, {mine.edit} edited, {mine.reject} rejected{rate(mine)}")


def rate(tally: Tally) -> str:
    """' · 6.5 a minute', from the time the problems were before somebody's eyes."""
    return f" · {60 * tally.decided / tally.seconds:.1f} a minute" if tally.seconds else ""


def counts(summary: ReviewSummary) -> None:
    """Who decided what, of which families, and why problems were rejected."""
    if not summary.reviewers:
        st.caption("Nothing was decided yet.")
    for title, tallies in (("By person", summary.reviewers), ("By family", summary.families)):
        if tallies:
            st.markdown(f"**{title}**")
            st.dataframe(tally_rows(tallies), hide_index=True, height="content")
    if summary.reasons:
        st.markdown("**Why rejected**")
        rows = [{"Reason": reason, "Problems": count} for reason, count in summary.reasons.items()]
        st.dataframe(rows, hide_index=True, height="content")


def tally_rows(tallies: Mapping[str, Tally]) -> list[dict[str, Any]]:
    return [
        {"Name": name, "Accepted": tally.accept, "Edited": tally.edit, "Rejected": tally.reject}
        for name, tally in sorted(tallies.items(), key=lambda item: -item[1].decided)
    ]


def side(job: str, split: Split, summary: ReviewSummary) -> None:
    progress(summary, split)
    with st.expander("Guidelines", icon=":material/rule:"):
        st.markdown(GUIDELINES)
    if current_user().role != "labeller":
        with st.expander("Freeze what was reviewed", icon=":material/ac_unit:"):
            freeze_form(job)


def page() -> None:
    st.title("Review")
    main, aside = st.columns([2.3, 1], gap="large")
    with aside:
        queue = choose_queue()
        if queue is None:
            return
        place = st.container()
    with main, errors_shown():
        item = open_item(*queue)
        if item is None:
            st.success("Nothing is left to review here. Thank you.", icon=":material/done_all:")
            if st.button("Undo the last one", shortcut="U"):
                undo(*queue)
        else:
            review(item)
    summary = client().review_summary(queue[0])
    with place:
        side(*queue, summary)
    with main, st.expander("Counts", icon=":material/bar_chart:"):
        counts(summary)


if __name__ == "__main__":
    page()

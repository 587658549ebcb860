"""Judge pairs of answers, by keyboard, without knowing where they come from."""

import time
from typing import Literal

import streamlit as st

from dashboard import formats
from dashboard.login import client, current_user
from dashboard.schemas import BlindPair, Choice, Rater
from dashboard.ui import answer, flash, turns

# choice, button, key
CHOICES: tuple[tuple[Choice, str, str], ...] = (
    ("left", "A is better", "A"),
    ("right", "B is better", "B"),
    ("tie", "Tie", "T"),
    ("both_bad", "Both bad", "X"),
    ("skip", "Skip", "S"),
)
REASONS = ("correct", "clear", "complete", "concise", "format", "safe", "helpful", "honest")
ORDERS = {
    "as_made": "As they were made",
    "uncertain": "Least certain to the reward model first",
    "disagreement": "Where the reward model prefers the answer that was verified to be worse",
}
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


def judge(pair: BlindPair, choice: Choice) -> None:
    seconds = time.monotonic() - st.session_state["pair_shown"]
    note, reasons = st.session_state.get(f"note-{pair.id}", ""), st.session_state.get(f"reasons-{pair.id}", [])
    client().label(pair, choice, round(seconds, 2), note, reasons)
    del st.session_state["pair"]
    st.rerun()


def undo() -> None:
    """Show the pair of the last label again, to be judged anew."""
    pair = client().undo_label()
    if pair is None:
        flash("There is no label of yours to take back.")
    else:
        st.session_state["pair"], st.session_state["pair_shown"] = pair, time.monotonic()
    st.rerun()


def sides(pair: BlindPair) -> None:
    left, right = st.columns(2)
    for column, title, text in ((left, "A", pair.left), (right, "B", pair.right)):
        with column, st.container(border=True, height="stretch"):
            st.markdown(f"**Answer {title}**")
            answer(text)


def buttons(pair: BlindPair) -> None:
    """One button a choice. The keys carry the pair, so a second press meant for the last pair does nothing."""
    for column, (choice, text, key) in zip(st.columns(len(CHOICES)), CHOICES, strict=True):
        kind: Literal["primary", "secondary"] = "primary" if choice in ("left", "right") else "secondary"
        with column:
            if st.button(text, shortcut=key, key=f"{choice}-{pair.id}", type=kind, width="stretch"):
                judge(pair, choice)
    st.pills("Why (optional)", REASONS, selection_mode="multi", format_func=str.capitalize, key=f"reasons-{pair.id}")
    st.text_input("Note (optional)", key=f"note-{pair.id}")


def progress() -> None:
    summary = client().label_summary()
    st.metric("Pairs left to judge", formats.number(summary.remaining), border=True)
    st.caption(f"{formats.number(summary.mine)} judged by you · {formats.number(summary.labelled)} in all")
    if st.button("Take back my last label", shortcut="U", icon=":material/undo:", disabled=not summary.mine):
        undo()


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
        order = st.selectbox("Order", list(ORDERS), format_func=lambda name: ORDERS[name])
        if st.form_submit_button("Import pairs from a reward job") and job:
            client().pairs_from_job(job, int(limit), order)
            st.session_state.pop("pair", None)
            flash("The pairs are in the queue.")
            st.rerun()


def rater_row(rater: Rater) -> dict[str, str | int]:
    seconds = "–" if rater.median_seconds is None else f"{rater.median_seconds:.1f} s"
    kappas = [f"{name} {value:.2f}" for name, value in rater.kappa.items() if value is not None]
    return {
        "Judge": rater.name,
        "Labels": rater.labels,
        "Skipped": rater.skipped,
        "Left : right": f"{rater.left} : {rater.right}",
        "Median time": seconds,
        "Repeats judged alike": counted(rater.consistent, rater.repeats),
        "Same side when swapped": counted(rater.same_side, rater.swapped),
        "Agreement (kappa)": ", ".join(kappas) or "–",
    }


def counted(share: float | None, count: int) -> str:
    return "–" if share is None else f"{formats.percent(share)} of {count}"


def rater_meter() -> None:
    """Each person as a judge: alarms first, then the figures."""
    found = client().raters()
    if not found.raters:
        st.caption("Nobody has judged a pair yet.")
        return
    for rater in found.raters:
        for alarm in rater.alarms:
            st.warning(f"**{rater.name}** {alarm}.", icon=":material/warning:")
    st.dataframe([rater_row(rater) for rater in found.raters], hide_index=True, height="content")
    alpha = "–" if found.alpha is None else f"{found.alpha:.2f}"
    st.caption(
        f"{found.shared_pairs} pairs were judged by several, {found.contradicted} of them with opposite labels; "
        f"Krippendorff's alpha {alpha}. Some pairs come back unannounced, half of them with the answers swapped: that "
        "is what consistency is measured with."
    )


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
        else:
            with st.container(border=True):
                st.caption("Question")
                turns(pair.prompt)
            sides(pair)
            buttons(pair)
    if current_user().role != "labeller":
        with st.expander("Rater meter", icon=":material/speed:"):
            rater_meter()


if __name__ == "__main__":
    page()

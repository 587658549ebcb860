"""What several pages show alike: errors, states, progress, answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Literal

import streamlit as st

from dashboard import formats
from dashboard.client import ClientError
from dashboard.login import log_out
from dashboard.schemas import Job, Message, Token

REFRESH_S = 2.0
Color = Literal["red", "orange", "yellow", "blue", "green", "violet", "gray", "primary"]
STATES: dict[str, tuple[Color, str]] = {
    "waiting": ("gray", ":material/hourglass_empty:"),
    "queued": ("violet", ":material/schedule:"),
    "running": ("blue", ":material/play_circle:"),
    "succeeded": ("green", ":material/check_circle:"),
    "failed": ("red", ":material/error:"),
    "cancelled": ("orange", ":material/cancel:"),
    "loading": ("blue", ":material/pending:"),
    "ready": ("green", ":material/check_circle:"),
    "unreachable": ("orange", ":material/link_off:"),
    "alive": ("green", ":material/favorite:"),
    "gone": ("gray", ":material/heart_broken:"),
}


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turn a failed request into a sentence on the page; a refused key leads back to the login."""
    try:
        yield
    except ClientError as error:
        if error.status == 401:
            log_out(f"Please log in again: {error}")
            st.rerun()
        st.error(str(error), icon=":material/error:")


def badge(state: str) -> None:
    color, icon = STATES.get(state, ("gray", ":material/help:"))
    st.badge(state, color=color, icon=icon)


@contextmanager
def heading(name: str, state: str) -> Iterator[None]:
    """A title with its state beside it; what is drawn inside stands at the right end."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(name, width="content")
        badge(state)
        st.space("stretch")
        yield


def flash(message: str) -> None:
    """Say something after the rerun that follows an action."""
    st.session_state["flash"] = message


def show_flash() -> None:
    if message := st.session_state.pop("flash", None):
        st.toast(message)


def progress_text(job: Job) -> str:
    """'step 120 of 400 · 2 min 05 s left'."""
    parts = []
    if job.total_steps:
        parts.append(f"{formats.number(job.step)} of {formats.number(job.total_steps)}")
    if job.seconds_left is not None:
        parts.append(f"{formats.duration(job.seconds_left)} left")
    return " · ".join(parts) or job.message or "starting"


def elapsed(job: Job, now: float) -> str:
    """How long a job ran, or has run so far."""
    if job.reused_from:
        return "reused"
    if job.started is None:
        return "–"
    return formats.duration((job.finished or now) - job.started)


def answer(text: str) -> None:
    """A completion; its thinking is folded away."""
    thought, said = formats.split_think(text)
    if thought:
        with st.expander("Thinking", icon=":material/psychology:"):
            st.markdown(thought)
    st.markdown(said or "_(no answer)_")


def tokens(shown: Sequence[Token]) -> None:
    """An answer with each token coloured by its probability; pointing at one shows what else might have come."""
    st.html("".join(token_html(token) for token in shown))
    st.caption("Unmarked tokens were certain; the redder, the less probable.")


def token_html(token: Token) -> str:
    """Transparent at probability 1, red towards 0; line breaks and spaces stay visible as such."""
    others = [f"{probability:6.1%}  {text!r}" for text, probability in token.others]
    title = escape("\n".join([f"{token.text!r}: {token.probability:.1%}", *others]), quote=True)
    red = 0.65 * (1 - token.probability)
    style = f"background: rgba(214, 84, 60, {red:.2f}); border-radius: 3px; white-space: pre-wrap"
    return f'<span style="{style}" title="{title}">{escape(token.text)}</span>'


def turns(messages: tuple[Message, ...]) -> None:
    """A prompt of one or several turns."""
    if len(messages) == 1:
        st.markdown(messages[0].content)
        return
    for message in messages:
        with st.chat_message(message.role):
            answer(message.content)

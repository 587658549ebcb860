"""A generated problem the way a person checks it: question, working, answer, and wrong answers with their mistakes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import formats

# A star or an underscore between two characters is meant as such; in Markdown it would begin emphasis.
MEANT = re.compile(r"(?<=[\w)\]])([*_])(?=[\w(\[])")
LATEX = re.compile(r"(\$\$.+?\$\$|\$[^$\n]+\$)", re.DOTALL)


def readable(text: str) -> str:
    """Markdown with LaTeX between dollars as it is, and plain arithmetic outside of it protected."""
    parts = LATEX.split(text)
    return "".join(part if index % 2 else MEANT.sub(r"\\\1", part) for index, part in enumerate(parts))


def problem(shown: Mapping[str, Any]) -> None:
    """Everything there is to judge of a problem."""
    st.caption(f"{formats.words(str(shown['family']))} · level {shown['level']}")
    st.markdown(f"#### {readable(shown['prompt'])}")
    solution(str(shown.get("solution") or ""))
    st.markdown(f"**Answer** &nbsp; `{shown['answer']}`")
    if found := shown.get("distractors"):
        distractors(found)


def solution(text: str) -> None:
    """The thinking set apart from what is said."""
    if not text:
        st.caption("No worked solution: this problem is for reinforcement learning.")
        return
    thought, said = formats.split_think(text)
    if thought:
        with st.container(border=True):
            st.caption("Thinking")
            st.markdown(readable(thought))
    st.markdown(readable(said))


def distractors(found: Sequence[Mapping[str, Any]]) -> None:
    """Wrong answers; each is verified to be wrong, so what matters is whether the mistake is a plausible one."""
    st.markdown("**Wrong answers**")
    for item in found:
        mistake, answer, text = st.columns([1.2, 1, 4], vertical_alignment="center")
        mistake.badge(formats.words(str(item["mistake"])), color="orange")
        answer.markdown(f"`{item['answer']}`")
        text.caption(readable(" ".join(" ".join(formats.split_think(str(item["solution"]))).split())))

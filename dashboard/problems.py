"""A generated problem the way a person checks it: question, working, answer, and wrong answers with their mistakes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import formats

# A star or an underscore between two characters is meant as such; in Markdown it would begin emphasis.
MEANT = re.compile(r"(?<=[\w)\]])([*_])(?=[\w(\[])")
LATEX = re.compile(r"(\$\$.+?\$\$|\$[^$\n]+\$)", re.DOTALL)
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
# How formulas are written in problems, and in LaTeX.
OPERATORS = {
    "mod": r"\bmod ", "gcd": r"\gcd", "lcm": r"\operatorname{lcm}", "*": r"\cdot ", ">=": r"\ge ", "<=": r"\le ",
}  # fmt: skip
OPERATOR = re.compile("|".join(re.escape(written) for written in OPERATORS))
ANSWER_IS = "The answer is "
EXPONENT = re.compile(r"\^(-?\d+|\([^()]*\))")


def readable(text: str) -> str:
    """Markdown that shows a text as it is written, but LaTeX between dollars typeset."""
    parts = LATEX.split(text)
    return "".join(
        part if index % 2 else MEANT.sub(r"\\\1", part.replace("\\", "\\\\")) for index, part in enumerate(parts)
    )


def typeset(text: str) -> str:
    """Markdown of formulas, each between semicolons on a line of its own; anything else as it is written."""
    formulas = text.removesuffix(".").split("; ")
    if "$" in text or not all(map(is_formula, formulas)):
        return readable(text)
    return "\n\n".join(f"${latex(formula)}$" for formula in formulas)


def is_formula(text: str) -> bool:
    """Whether there is no word in it but names of operators."""
    return bool(text) and set(WORD.findall(text)) <= OPERATORS.keys()


def latex(formula: str) -> str:
    return EXPONENT.sub(r"^{\1}", OPERATOR.sub(lambda found: OPERATORS[found[0]], formula))


def problem(shown: Mapping[str, Any]) -> None:
    """Everything there is to judge of a problem."""
    st.caption(f"{formats.words(str(shown['family']))} · level {shown['level']}")
    st.markdown(f"#### {readable(shown['prompt'])}")
    solution(str(shown.get("solution") or ""))
    st.markdown(f"**Answer** &nbsp; {typeset(shown['answer'])}")
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
            st.markdown(typeset(thought))
    st.markdown(closing(said))


def closing(said: str) -> str:
    """What is said, with the answer in its last sentence typeset."""
    words, is_there, answer = said.rpartition(ANSWER_IS)
    return f"{readable(words)}{ANSWER_IS}{typeset(answer.removesuffix('.'))}." if is_there else readable(said)


def distractors(found: Sequence[Mapping[str, Any]]) -> None:
    """Wrong answers; each is verified to be wrong, so what matters is whether the mistake is a plausible one."""
    st.markdown("**Wrong answers**")
    for item in found:
        mistake, answer, text = st.columns([1.2, 1, 4], vertical_alignment="center")
        mistake.badge(formats.words(str(item["mistake"])), color="orange")
        answer.markdown(typeset(item["answer"]))
        text.caption(readable(" ".join(" ".join(formats.split_think(str(item["solution"]))).split())))

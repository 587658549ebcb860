"""Talk to a deployed model; an answer streams in, can be stopped, and two answers can become a pair to judge."""

from collections.abc import Sequence
from contextlib import closing

import streamlit as st

from dashboard import formats
from dashboard.client import ClientError, chat_body
from dashboard.login import client, current_login
from dashboard.schemas import ChatDelta, Message, Sampling, TokenUsage
from dashboard.ui import answer, errors_shown, flash


def conversation() -> list[Message]:
    """The turns so far; they belong to the login, so a refresh keeps them."""
    login = current_login()
    assert login is not None
    return login.conversation


def choose_model() -> str | None:
    """One of the deployments that answer; what is not ready is listed with its reason."""
    deployments = client().deployments()
    ready = [item.model_name for item in deployments if item.answers]
    for item in deployments:
        before = "; what was deployed before goes on" if item.answers else ""
        if item.state == "failed":
            st.warning(f"{item.model_name} could not be loaded: {item.error or 'no reason given'}{before}")
        elif item.state != "ready":
            st.caption(f"{item.model_name} is {item.state}{before}.")
    if not ready:
        st.info("No model is deployed yet. A pipeline that ends in a deploy job puts one here.", icon=":material/info:")
        return None
    return st.selectbox("Model", ready, key="model", bind="query-params")


def choose_sampling() -> Sampling:
    max_tokens = st.number_input("Longest answer (tokens)", 1, 8192, 160, key="max_tokens", bind="query-params")
    temperature = st.slider(
        "Temperature",
        0.0,
        2.0,
        0.7,
        0.05,
        key="temperature",
        bind="query-params",
        help="0 always takes the likeliest token.",
    )
    top_p = st.slider("Top p", 0.05, 1.0, 1.0, 0.05, key="top_p", bind="query-params")
    seed = st.number_input("Seed", min_value=0, value=None, step=1, key="seed", placeholder="random")
    return Sampling(
        max_tokens=int(max_tokens), temperature=temperature, top_p=top_p, seed=None if seed is None else int(seed)
    )


def usage_line(usage: TokenUsage | None, finish: str | None) -> str:
    parts = []
    if usage:
        parts += [f"{usage.prompt_tokens} tokens in", f"{usage.completion_tokens} tokens out"]
    if finish == "length":
        parts.append("cut off at the longest answer")
    return " · ".join(parts)


def stream_answer(model: str, sampling: Sampling) -> None:
    """Show the answer as it comes. Stop reruns the page, which closes the stream and with it the generation."""
    turns = conversation()
    prompt = tuple(turns)
    turns.append(Message(role="assistant", content=""))
    last = ChatDelta()
    with st.chat_message("assistant"):
        stop, place = st.empty(), st.empty()
        stop.button("Stop", icon=":material/stop_circle:", key="stop")
        try:
            with closing(client().chat(model, prompt, sampling)) as deltas:
                for delta in deltas:
                    turns[-1] = Message(role="assistant", content=turns[-1].content + delta.text)
                    last = delta.model_copy(
                        update={
                            "finish_reason": delta.finish_reason or last.finish_reason,
                            "usage": delta.usage or last.usage,
                        }
                    )
                    with place.container():
                        answer(turns[-1].content)
        except ClientError:
            stop.empty()
            raise
        stop.empty()
    st.session_state["usage"] = usage_line(last.usage, last.finish_reason)


def drop_empty_answer() -> None:
    """An answer stopped or refused before its first token is no turn."""
    turns = conversation()
    if turns and turns[-1].role == "assistant" and not turns[-1].content:
        turns.pop()


def answer_question(model: str, sampling: Sampling) -> None:
    """Stream, then show the page again with the answer among its turns."""
    try:
        stream_answer(model, sampling)
    except ClientError as error:
        raise ClientError(without_the_question(str(error)), error.status) from error
    st.rerun()


def without_the_question(reason: str) -> str:
    """Take a refused question back, or every later one would be refused for its sake; returns what to say."""
    turns = conversation()
    drop_empty_answer()
    if turns and turns[-1].role == "user":
        turns.pop()
        reason += " (the question was taken back" + ("; earlier turns count too, until cleared)" if turns else ")")
    return reason


def chat(model: str, sampling: Sampling) -> None:
    """The turns, and below them the field for the next one."""
    drop_empty_answer()
    place = st.container()
    if question := st.chat_input("Ask the model", key="question"):
        conversation().append(Message(role="user", content=question))
        st.session_state.pop("usage", None)
    with place:
        if not conversation():
            st.caption("Ask something; the answer streams in here.")
        for message in conversation():
            with st.chat_message(message.role):
                answer(message.content)
        if question:
            with errors_shown():
                answer_question(model, sampling)
        elif usage := st.session_state.get("usage"):
            st.caption(usage)


def last_prompt() -> tuple[Message, ...]:
    """The conversation up to its last question."""
    turns = conversation()
    asked = [index for index, message in enumerate(turns) if message.role == "user"]
    return tuple(turns[: asked[-1] + 1]) if asked else ()


def make_pair(model: str, prompt: Sequence[Message], sampling: Sampling) -> None:
    """Two answers to the last question, into the labelling queue."""
    with st.spinner("Generating two answers"):
        a = client().complete(model, prompt, sampling)
        other = None if sampling.seed is None else sampling.seed + 1
        b = client().complete(model, prompt, sampling.model_copy(update={"seed": other}))
    if a == b:
        st.warning("Both answers are the same, so there is nothing to judge; raise the temperature.")
        return
    client().save_pair(prompt, a, b, origin=f"playground:{model}")
    flash("The pair is in the labelling queue.")
    st.rerun()


def tools(model: str, sampling: Sampling) -> None:
    prompt = last_prompt()
    if st.button("Generate two and save as pair", icon=":material/compare:", disabled=not prompt, width="stretch"):
        with errors_shown():
            make_pair(model, prompt, sampling)
    if st.button("Clear conversation", icon=":material/delete_sweep:", disabled=not prompt, width="stretch"):
        conversation().clear()
        st.session_state.pop("usage", None)
        st.rerun()
    with st.expander("As a curl command", icon=":material/terminal:"):
        shown = prompt or (Message(role="user", content="What is 12 + 30?"),)
        st.code(
            formats.curl(client().serving.url, chat_body(model, shown, sampling) | {"stream": True}),
            language="bash",
            wrap_lines=True,
        )


def page() -> None:
    st.title("Playground")
    main, side = st.columns([2.3, 1], gap="large")
    with side:
        model = choose_model()
        if model is None:
            return
        sampling = choose_sampling()
        place = st.container()
    with main:
        chat(model, sampling)
    with place:
        tools(model, sampling)


if __name__ == "__main__":
    page()

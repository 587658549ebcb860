"""Talk to one deployed model or to two side by side; answers stream in, and two of them can become a pair to judge."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import formats
from dashboard.client import ClientError, chat_body
from dashboard.login import client, current_login
from dashboard.schemas import ChatDelta, Deployment, Message, Sampling, TokenUsage, Turn
from dashboard.ui import answer, errors_shown, flash, tokens

NOBODY = "Nobody"
OTHERS = 5  # how many likely tokens are shown beside the chosen one


@dataclass(frozen=True)
class Asked:
    """Who answers, and how: one model, or two of them side by side."""

    models: tuple[str, ...]
    sampling: Sampling
    probabilities: bool


def conversations() -> tuple[list[Turn], list[Turn]]:
    """The turns so far with the first model and with the second; they belong to the login, so a refresh keeps them."""
    login = current_login()
    assert login is not None
    return login.conversation, login.other


def names(deployments: Sequence[Deployment]) -> list[str]:
    """The models that answer; where several versions of one are loaded, each by itself too."""
    found = []
    for item in deployments:
        loaded = [version.job for version in item.versions if version.state == "ready"]
        if item.answers:
            found += [item.model_name, *(f"{item.model_name}@{job}" for job in loaded if len(loaded) > 1)]
    return found


def choose_models() -> tuple[str, ...]:
    """One or two of the models that answer; deployments that do not are listed with their reason."""
    deployments = client().deployments()
    for item in deployments:
        before = "; what was deployed before goes on" if item.answers else ""
        if item.state == "failed":
            st.warning(f"{item.model_name} could not be loaded: {item.error or 'no reason given'}{before}")
        elif item.state != "ready":
            st.caption(f"{item.model_name} is {item.state}{before}.")
    ready = names(deployments)
    if not ready:
        st.info(
            "No model is deployed yet. The page Deployments puts one here, and so does a pipeline that ends in a "
            "deploy job.",
            icon=":material/info:",
        )
        return ()
    first = st.selectbox("Model", ready, key="model", bind="query-params")
    second = st.selectbox(
        "Beside it", [NOBODY, *ready], key="beside", bind="query-params",
        help="Asks two models at once. The same model twice shows how much its answers vary.",
    )  # fmt: skip
    return (str(first),) if second in (None, NOBODY) else (str(first), str(second))


def choose_sampling() -> Sampling:
    max_tokens = st.number_input("Longest answer (tokens)", 1, 8192, 160, key="max_tokens", bind="query-params")
    temperature = st.slider(
        "Temperature", 0.0, 2.0, 0.7, 0.05, key="temperature", bind="query-params",
        help="0 always takes the likeliest token.",
    )  # fmt: skip
    top_p = st.slider("Top p", 0.05, 1.0, 1.0, 0.05, key="top_p", bind="query-params")
    seed = st.number_input("Seed", min_value=0, value=None, step=1, key="seed", placeholder="random")
    stop = st.multiselect(
        "Stop at", [], key="stop", accept_new_options=True, max_selections=4, placeholder="type a text, then Enter",
        help="The answer ends before the first of these texts.",
    )  # fmt: skip
    return Sampling(
        max_tokens=int(max_tokens), temperature=temperature, top_p=top_p, seed=None if seed is None else int(seed),
        stop=tuple(stop) or None,
    )  # fmt: skip


def usage_line(usage: TokenUsage | None, finish: str | None, version: str | None) -> str:
    parts = []
    if usage:
        parts += [f"{usage.prompt_tokens} tokens in", f"{usage.completion_tokens} tokens out"]
    if finish == "length":
        parts.append("cut off at the longest answer")
    if version:
        parts.append(f"version {version[:6]}")
    return " · ".join(parts)


def show(turn: Turn, probabilities: bool) -> None:
    if probabilities and turn.tokens:
        tokens(turn.tokens)
    else:
        answer(turn.content)


def show_turns(turns: Sequence[Turn], probabilities: bool) -> None:
    for turn in turns:
        with st.chat_message(turn.role):
            show(turn, probabilities)


# -- answering -------------------------------------------------------------------------------------------------------


class Stream:
    """One answer on its way into a conversation and onto the page."""

    def __init__(
        self, turns: list[Turn], place: DeltaGenerator, deltas: Generator[ChatDelta], probabilities: bool
    ) -> None:
        self.turns, self.place, self.deltas, self.probabilities = turns, place, deltas, probabilities
        self.finish: str | None = None
        self.usage: TokenUsage | None = None
        self.version: str | None = None
        turns.append(Turn(role="assistant", content="", ended=False))

    def step(self) -> bool:
        """Take the next piece and show it; false at the end."""
        delta = next(self.deltas, None)
        if delta is None:
            return False
        last = self.turns[-1]
        text, seen = last.content + delta.text, last.tokens + delta.tokens
        self.finish, self.usage = delta.finish_reason or self.finish, delta.usage or self.usage
        self.turns[-1] = Turn(role="assistant", content=text, tokens=seen, ended=self.finish is not None)
        self.version = delta.version or self.version
        with self.place.container():
            show(self.turns[-1], self.probabilities)
        return True


def stream_answers(asked: Asked, places: Sequence[DeltaGenerator]) -> None:
    """Show the answers as they come, piece by piece in turn. Stop reruns the page, which closes the streams and with
    them the generation."""
    with ExitStack() as stack:
        streams = []
        for model, turns, place in zip(asked.models, conversations(), places, strict=False):
            others = OTHERS if asked.probabilities else None
            deltas = stack.enter_context(closing(client().chat(model, tuple(turns), asked.sampling, others)))
            with place, st.chat_message("assistant"):
                streams.append(Stream(turns, st.empty(), deltas, asked.probabilities))
        running = list(streams)
        while running:
            running = [stream for stream in running if stream.step()]
    st.session_state["usage"] = [usage_line(stream.usage, stream.finish, stream.version) for stream in streams]


def drop_empty_answers() -> None:
    """An answer stopped or refused before its first token is no turn."""
    for turns in conversations():
        if turns and turns[-1].role == "assistant" and not turns[-1].content and not turns[-1].ended:
            turns.pop()


def ask(asked: Asked, question: str, places: Sequence[DeltaGenerator]) -> None:
    """Stream the answers, then show the page again with them among the turns. A question that is refused is taken back,
    or every later one would be refused for its sake."""
    first, second = conversations()
    if len(asked.models) == 2 and not in_step(first, second):
        second[:] = first  # the second model joins in the middle
    mine = conversations()[: len(asked.models)]
    before = len(first)
    for turns, place in zip(mine, places, strict=False):
        turns.append(Turn(role="user", content=question))
        with place, st.chat_message("user"):
            answer(question)
    stop = st.empty()
    stop.button("Stop", icon=":material/stop_circle:", key="stop_button")
    try:
        stream_answers(asked, places)
    except ClientError as error:
        stop.empty()
        for turns in mine:
            del turns[before:]
        taken_back = " (the question was taken back" + ("; earlier turns count too, until cleared)" if before else ")")
        raise ClientError(str(error) + taken_back, error.status) from error
    st.rerun()


def chat(asked: Asked) -> None:
    """The turns, side by side where two answer, and below them the field for the next question."""
    drop_empty_answers()
    columns = st.columns(len(asked.models), gap="medium")
    question = st.chat_input("Ask the model" if len(asked.models) == 1 else "Ask both", key="question")
    if question:
        st.session_state.pop("usage", None)
    for model, turns, column in zip(asked.models, shown_conversations(asked), columns, strict=False):
        with column:
            if len(asked.models) == 2:
                st.markdown(f"**{model}**")
            if not turns and not question:
                st.caption("Ask something; the answer streams in here.")
            show_turns(turns, asked.probabilities)
    if question:
        with errors_shown():
            ask(asked, question, columns)
    for column, line in zip(columns, st.session_state.get("usage", []), strict=False):
        column.caption(line)


def shown_conversations(asked: Asked) -> list[list[Turn]]:
    """A second model that has not been asked anything yet stands where the first one does."""
    first, second = conversations()
    return [first, second if in_step(first, second) else first][: len(asked.models)]


def in_step(first: Sequence[Turn], second: Sequence[Turn]) -> bool:
    """Whether both were asked the same questions."""
    asked, beside = ([turn.content for turn in turns if turn.role == "user"] for turns in (first, second))
    return asked == beside


# -- what can be made of it ------------------------------------------------------------------------------------------


def last_prompt() -> tuple[Message, ...]:
    """The conversation up to its last question."""
    turns, _ = conversations()
    asked = [index for index, message in enumerate(turns) if message.role == "user"]
    return tuple(turns[: asked[-1] + 1]) if asked else ()


def make_pair(model: str, prompt: Sequence[Message], sampling: Sampling) -> None:
    """Two answers to the last question, into the labelling queue."""
    with st.spinner("Generating two answers"):
        a = client().complete(model, prompt, sampling)
        other = None if sampling.seed is None else sampling.seed + 1
        b = client().complete(model, prompt, sampling.model_copy(update={"seed": other}))
    save_pair(prompt, a, b, f"playground:{model}")


def save_pair(prompt: Sequence[Message], a: str, b: str, origin: str) -> None:
    if a == b:
        st.warning("Both answers are the same, so there is nothing to judge; raise the temperature.")
        return
    client().save_pair(prompt, a, b, origin)
    flash("The pair is in the labelling queue.")
    st.rerun()


def pair_button(asked: Asked, prompt: tuple[Message, ...]) -> None:
    """Two answers on the page are a pair where they answer the same turns; with one model, two are generated."""
    first, second = conversations()
    if len(asked.models) == 1:
        text = "Generate two and save as pair"
        if st.button(text, icon=":material/compare:", disabled=not prompt, width="stretch"):
            with errors_shown():
                make_pair(asked.models[0], prompt, asked.sampling)
        return
    same = len(first) == len(second) > 0 and [t.content for t in first[:-1]] == [t.content for t in second[:-1]]
    pressed = st.button(
        "Save the two as pair", icon=":material/compare:", disabled=not same, width="stretch",
        help="For the labelling queue. Possible while both answer the same turns, which is so for a first question.",
    )  # fmt: skip
    if pressed:
        with errors_shown():
            origin = f"playground:{' and '.join(asked.models)}"
            save_pair(prompt, first[-1].content, second[-1].content, origin)


def tools(asked: Asked) -> None:
    prompt = last_prompt()
    pair_button(asked, prompt)
    if st.button("Clear conversation", icon=":material/delete_sweep:", disabled=not prompt, width="stretch"):
        for turns in conversations():
            turns.clear()
        st.session_state.pop("usage", None)
        st.rerun()
    shown = prompt or (Message(role="user", content="What is 12 + 30?"),)
    body, url = chat_body(asked.models[0], shown, asked.sampling), client().serving.url
    with st.expander("As code", icon=":material/terminal:"):
        curl, python = st.tabs(["curl", "Python"])
        curl.code(formats.curl(url, body | {"stream": True}), language="bash", wrap_lines=True)
        python.code(formats.python(url, body), language="python", wrap_lines=True)


def page() -> None:
    st.title("Playground")
    main, side = st.columns([2.3, 1], gap="large")
    with side:
        models = choose_models()
        if not models:
            return
        sampling = choose_sampling()
        probabilities = st.toggle(
            "Token probabilities", key="probabilities",
            help="Colours each token by how probable it was; point at one to see what else might have come.",
        )  # fmt: skip
        asked = Asked(models, sampling, probabilities)
        place = st.container()
    with main:
        chat(asked)
    with place:
        tools(asked)


if __name__ == "__main__":
    page()

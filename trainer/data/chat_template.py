"""The chat format behind a Jinja chat template, found by rendering small chats with it. Imports no torch."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import product

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trainer.data.chat_format import ChatFormat
from trainer.spec import Message, Role

Chat = Sequence[Message]
Render = Callable[[Chat, bool], str]  # chat, generation prompt?

# What rendering a template may raise, and what `_check` does.
_FAILURES = (TemplateError, TypeError, ValueError)

SYSTEM, USER, ANSWER, MORE, LAST = (
    Message(role=role, content=f"Octavo{number}")
    for number, role in enumerate(("system", "user", "assistant", "user", "assistant"))
)


def read_chat_template(
    template: str, special_tokens: Mapping[str, str], start: str, log: Callable[[str], None]
) -> ChatFormat:
    """Markers that lay out chats as the template does.

    Args:
        special_tokens: `bos_token` and such, which templates refer to.
        start: what the tokenizer puts before every text, or nothing. Where the template leaves it out it is added.
        log: told where a system message is written otherwise.

    Raises:
        ValueError: the template does not render, or not as markers before and after each message.
    """
    render = _renderer(template, special_tokens, start)
    try:
        found = _read_markers(render, start)
        _check(found, render, ([USER], [USER, ANSWER], [USER, ANSWER, MORE], [USER, ANSWER, MORE, LAST]))
    except _FAILURES as error:
        raise ValueError(
            f"the chat template cannot be used: {error}; take it out of the folder (tokenizer_config.json, "
            "chat_template.jinja) to have Octavo's plain layout instead"
        ) from error
    try:
        with_system = _read_system(found, render)
        _check(with_system, render, ([SYSTEM, USER], [SYSTEM, USER, ANSWER, MORE]))
    except _FAILURES:
        log("its chat template has no place of its own for a system message: it is written like a user's")
        return found
    return with_system


def _renderer(template: str, special_tokens: Mapping[str, str], start: str) -> Render:
    """The template as transformers renders it, with `start` in front where it leaves that out."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }

    def render(chat: Chat, add_generation_prompt: bool) -> str:
        messages = [message.model_dump() for message in chat]
        text = environment.from_string(template).render(
            messages=messages, add_generation_prompt=add_generation_prompt, **special_tokens
        )
        return text if text.startswith(start) else start + text

    return render


def _read_markers(render: Render, start: str) -> ChatFormat:
    """Markers from chats without a system message; whether they hold is for `_check` to say."""
    opening, after_user = _around(render([USER], False), USER)
    _, before_answer, after_answer = _around(render([USER, ANSWER], False), USER, ANSWER)
    before_user = _around(render([USER, ANSWER, MORE], False), USER, ANSWER, MORE)[2].removeprefix(after_answer)
    before: dict[Role, str] = {
        "system": before_user,
        "user": before_user,
        "assistant": before_answer.removeprefix(after_user),
    }
    after: dict[Role, str] = {"system": after_user, "user": after_user, "assistant": after_answer}
    default_system = opening.removesuffix(before_user).removeprefix(start)
    return ChatFormat(start=start, default_system=default_system, before=before, after=after)


def _read_system(found: ChatFormat, render: Render) -> ChatFormat:
    before, after, _ = _around(render([SYSTEM, USER], False), SYSTEM, USER)
    return found.model_copy(
        update={
            "before": {**found.before, "system": before.removeprefix(found.start)},
            "after": {**found.after, "system": after.removesuffix(found.before["user"])},
        }
    )


def _around(text: str, *messages: Message) -> list[str]:
    """What stands before, between and after the contents of messages."""
    parts = []
    for message in messages:
        before, found, text = text.partition(message.content)
        if not found:
            raise ValueError(f"it leaves out what the {message.role} says")
        parts.append(before)
    return [*parts, text]


def _check(found: ChatFormat, render: Render, chats: Sequence[Chat]) -> None:
    for chat, prompt in product(chats, (False, True)):
        if prompt and chat[-1].role == "assistant":
            continue
        # A space at the end of a prompt is a question of taste: with it or without it the answer goes on alike.
        texts = found.render(chat, add_generation_prompt=prompt), render(chat, prompt)
        ours, theirs = (text.rstrip(" ") for text in texts)
        if ours != theirs:
            raise ValueError(f"markers before and after each message give {ours!r} for what it writes as {theirs!r}")

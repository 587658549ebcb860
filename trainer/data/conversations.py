"""Dialogues of any origin as records, and back as chats that can be trained on.

A dialogue is a record like any other, so that every cleaning rule sees, and may change, what is said in it: its text is
the messages' contents one after the other, and `meta["chat_roles"]` says whose they are.
"""

from collections.abc import Sequence
from typing import Any

from trainer.spec import Message, Record, Role

ROLES = "chat_roles"  # in a record's meta
BETWEEN = "\n\n\u241e"  # before each message of a record but the first: the sign of a record separator

_CALLS = ("tool_call", "function_call")
_RESULTS = ("tool_result", "tool", "function", "function_response", "observation")
# What data sets call those who speak. A tool is called by the assistant, and its result is told to it.
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot"), "assistant"),
    **dict.fromkeys(_CALLS, "assistant"),
    **dict.fromkeys(_RESULTS, "user"),
}


def text_and_roles(messages: Sequence[Any]) -> tuple[str, list[str]]:
    """A record's text and `meta["chat_roles"]` for messages `{"role", "content"}` (or `{"from", "value"}`).

    Raises:
        ValueError: a message has no role that is known, or no text; or there is none.
    """
    if not messages:
        raise ValueError("a dialogue needs a message")
    roles, contents = [], []
    for message in messages:
        role, content = (
            (message.get("role", message.get("from")), message.get("content", message.get("value")))
            if isinstance(message, dict)
            else (None, None)
        )
        if role not in _ROLES or not isinstance(content, str):
            raise ValueError(
                f"a message needs a role ({', '.join(_ROLES)}) and a content; this one is {message!r:.100}"
            )
        roles.append(role)
        contents.append(content.replace(BETWEEN.strip(), ""))
    return BETWEEN.join(contents), roles


def is_conversation(record: Record) -> bool:
    return ROLES in record.meta


def chat_of(record: Record) -> list[Message]:
    """What can be learned of a dialogue: roles by our names, what one of them says in a row as one message, nothing
    after the assistant's last words. Empty where it says nothing, or not every message is there.

    A tool's call and result are marked as such, since they are the assistant's and the user's words.
    """
    names, contents = record.meta[ROLES], record.text.split(BETWEEN.strip())
    if len(names) != len(contents):  # a rule took out more than words: nobody knows who says what
        return []
    chat: list[Message] = []
    for name, content in zip(names, contents, strict=True):
        role, content = _ROLES[name], _marked(name, content.strip())
        if chat and chat[-1].role == role:
            chat[-1] = Message(role=role, content=f"{chat[-1].content}\n\n{content}")
        else:
            chat.append(Message(role=role, content=content))
    while chat and chat[-1].role != "assistant":
        chat.pop()
    return chat


def _marked(name: str, content: str) -> str:
    if name in _CALLS:
        return f"<tool_call>\n{content}\n</tool_call>"
    return f"<tool_response>\n{content}\n</tool_response>" if name in _RESULTS else content

"""What stands around the messages of a chat. One description of it makes the token ids of training and serving and
the Jinja template that other readers of a checkpoint use."""

import json
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from trainer.spec import Message, Role


class ChatFormat(BaseModel):
    """Markers: text in which special tokens are written out, `<|im_start|>user\\n`.

    The first special token after what the assistant says ends its message, and every document.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: str  # before every chat and every document
    default_system: str = ""  # stands in for the system message of a chat that begins without one
    before: dict[Role, str]
    after: dict[Role, str]

    def render(self, chat: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The chat as one text: what `template` says."""
        opening = self.start + (self.default_system if chat and chat[0].role != "system" else "")
        messages = (self.before[message.role] + message.content + self.after[message.role] for message in chat)
        return opening + "".join(messages) + (self.before["assistant"] if add_generation_prompt else "")

    def template(self, *, spaced: bool) -> str:
        """The Jinja template of a tokenizer_config.json.

        Args:
            spaced: the tokenizer puts a space before a message itself, so a prompt ends before it.
        """
        prompt = self.before["assistant"].removesuffix(" ") if spaced else self.before["assistant"]
        return (
            f"{{% set before = {_quoted(self.before)} %}}{{% set after = {_quoted(self.after)} %}}"
            f"{{{{ {_quoted(self.start)} }}}}"
            "{% if messages and messages[0]['role'] != 'system' %}"
            f"{{{{ {_quoted(self.default_system)} }}}}"
            "{% endif %}{% for message in messages %}"
            "{{ before[message['role']] + message['content'] + after[message['role']] }}"
            "{% endfor %}"
            f"{{% if add_generation_prompt %}}{{{{ {_quoted(prompt)} }}}}{{% endif %}}"
        )


def _quoted(value: str | dict[Role, str]) -> str:
    """A value as Jinja writes it, which reads JSON's strings and objects."""
    return json.dumps(value, ensure_ascii=False)

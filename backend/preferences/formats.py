"""Preference pairs as others write them in JSON Lines, read and written.

octavo         {"prompt": [messages], "chosen": text, "rejected": text}, as a reward job leaves them
hh-rlhf        {"chosen": transcript, "rejected": transcript}: "\\n\\nHuman: …\\n\\nAssistant: …", alike but for the end
ultrafeedback  {"prompt": text, "chosen": [messages], "rejected": [messages], "score_chosen", "score_rejected"}
argilla        {"prompt" or "instruction" or "input": text, "chosen": text, "rejected": text}, or such texts in "fields"
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from trainer.spec import Message, Pair, explain

Format = Literal["octavo", "hh-rlhf", "ultrafeedback", "argilla"]
_TURN = re.compile(r"\n\n(Human|Assistant): ?")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_PROMPT_NAMES = ("prompt", "instruction", "input")


def read_pair(row: Any, origin: str) -> Pair:
    """One row of any of the formats, told apart by its fields.

    Raises:
        ValueError: it is none of them, or its two sides do not begin alike; says what is missing.
    """
    if not isinstance(row, Mapping):
        raise ValueError("no JSON object")
    fields = row["fields"] if isinstance(row.get("fields"), Mapping) else row
    chosen, rejected = fields.get("chosen"), fields.get("rejected")
    if chosen is None or rejected is None:
        raise ValueError("the fields 'chosen' and 'rejected' are missing")
    named = [fields[name] for name in _PROMPT_NAMES if fields.get(name) is not None]
    if not named:
        prompt, better, worse = _from_transcripts(_turns(chosen), _turns(rejected))
    elif isinstance(chosen, str):
        prompt, better, worse = _prompt(named[0]), chosen, _text(rejected)
    else:
        prompt, better, worse = _from_transcripts(_messages(chosen), _messages(rejected))
    margin = max(0.0, _number(fields, "score_chosen") - _number(fields, "score_rejected"))
    values = {"prompt": prompt, "chosen": better, "rejected": worse}
    kept = {name: row[name] for name in ("preference", "margin", "meta") if name in row}
    try:
        return Pair.model_validate(
            {"id": _identity(row, values), "origin": row.get("origin") or origin, "margin": margin, **kept, **values}
        )
    except ValidationError as error:
        raise ValueError(explain(error)) from error


def write_pair(pair: Pair, format: Format) -> dict[str, Any]:
    """One row of a format; what it has no place for is left out."""
    prompt = [message.model_dump() for message in pair.prompt]
    if format == "octavo":
        return pair.model_dump(mode="json")
    if format == "hh-rlhf":
        return {"chosen": _transcript(pair.prompt, pair.chosen), "rejected": _transcript(pair.prompt, pair.rejected)}
    asked = pair.prompt[0].content if len(pair.prompt) == 1 else _transcript(pair.prompt, "").strip()
    if format == "argilla":
        return {"prompt": asked, "chosen": pair.chosen, "rejected": pair.rejected}
    sides = {
        side: [*prompt, {"role": "assistant", "content": text}]
        for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected))
    }
    return {"prompt": asked, **sides, "score_chosen": pair.margin, "score_rejected": 0.0}


def _identity(row: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    text = json.dumps(values, default=lambda message: message.model_dump())
    return str(row.get("id") or hashlib.sha256(text.encode()).hexdigest()[:16])


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("'chosen' is a text, 'rejected' is none")
    return value


def _prompt(value: Any) -> list[Message]:
    return [Message(role="user", content=value)] if isinstance(value, str) else _messages(value)


def _messages(value: Any) -> list[Message]:
    try:
        return [Message.model_validate({"role": item["role"], "content": item["content"]}) for item in value]
    except (TypeError, KeyError, ValidationError) as error:
        raise ValueError("a conversation is a list of messages with 'role' and 'content'") from error


def _turns(transcript: Any) -> list[Message]:
    if not isinstance(transcript, str):
        raise ValueError("without a prompt, 'chosen' and 'rejected' are transcripts of Human and Assistant")
    _, *parts = _TURN.split(transcript)
    if not parts:
        raise ValueError("a prompt is missing, and 'chosen' is no transcript of Human and Assistant")
    speakers, texts = parts[::2], parts[1::2]
    return [
        Message.model_validate({"role": _SPEAKERS[speaker], "content": text.strip()})
        for speaker, text in zip(speakers, texts, strict=True)
    ]


def _from_transcripts(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], str, str]:
    """What both have in common is the prompt; each ends with the assistant's answer."""
    if not chosen or not rejected or chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise ValueError("a side does not end with an answer of the assistant")
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("the two sides answer different prompts")
    return chosen[:-1], chosen[-1].content, rejected[-1].content


def _transcript(prompt: Sequence[Message], answer: str) -> str:
    names = {"user": "Human", "assistant": "Assistant", "system": "Human"}
    said = "".join(f"\n\n{names[message.role]}: {message.content}" for message in prompt)
    return f"{said}\n\nAssistant: {answer}" if answer else said

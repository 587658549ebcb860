"""A tokenizer from elsewhere, in Hugging Face's layout, as one of ours: its chat template becomes a chat format, what
training needs and it lacks is added behind its last token, and one that changes texts is refused. Imports no torch.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as BpeTokenizer

from trainer.artifacts import read_json
from trainer.data.bpe import SPACE, byte_characters
from trainer.data.chat_format import ChatFormat
from trainer.data.chat_template import read_chat_template
from trainer.data.tokenizer import END_THINK, NEEDED_TOKENS, ROLE_TOKENS, THINK, Tokenizer

State = dict[str, Any]  # a tokenizer.json

# What decoding must give back: all bytes, both forms of an accent, spaces at either end, the name of a byte token.
PROBES = (
    "".join(map(chr, range(256))),
    "e\u0301 \u00e9, 数学, Größe, 👩‍👩‍👧, ▁_▁",
    "  two spaces\n\n\tTabs and CAPITALS 12345 <0x0A> ",
)


def read_tokenizer(folder: Path, rows: int, log: Callable[[str], None]) -> Tokenizer:
    """The tokenizer of a folder that transformers can open.

    It may have more tokens than the original: `<think>` and those of a text with a gap, and bytes that the original has
    no token for and would drop.

    Args:
        rows: how many tokens the network knows.
        log: told in one line of each thing that differs from the original.

    Raises:
        ValueError: a file is missing, the tokenizer or its chat template is of a kind that does not fit, or it has
            more tokens than the network.
    """
    path, config_path = folder / "tokenizer.json", folder / "tokenizer_config.json"
    for file in (path, config_path):
        if not file.is_file():
            raise ValueError(
                f"{folder} has no {file.name}; write one with transformers: "
                "AutoTokenizer.from_pretrained(…).save_pretrained(…)"
            )
    state, config = read_json(path), read_json(config_path)
    if _size(state) > rows:
        raise ValueError(f"the tokenizer has {_size(state)} tokens, the network only {rows}: they do not fit together")
    if "chat_format" in config:
        return Tokenizer.load(folder)
    special_tokens = {name: _text(token) for name, token in config.items() if name.endswith("_token") and token}
    chat = _chat_format(folder, config, special_tokens, _start(state, special_tokens), log)
    full = _with_needed_tokens(state)
    if _size(full) > _size(state):
        log(f"tokens {_size(state)} to {_size(full) - 1} were added: those of thoughts and gaps, and bytes it lacked")
    if state["model"].get("byte_fallback"):
        full, chat = _spaced_at_the_start_only(full), _with_spaces(chat)
    tokenizer = Tokenizer(json.dumps(full, ensure_ascii=False), chat)
    _check_round_trip(tokenizer)
    return tokenizer


def _size(state: State) -> int:
    """One more than the largest id."""
    ids: list[int] = [*state["model"]["vocab"].values(), *(token["id"] for token in state["added_tokens"])]
    return 1 + max(ids)


def _text(token: Any) -> Any:
    """A special token of a tokenizer_config.json, which is a text or an object."""
    return token["content"] if isinstance(token, dict) else token


def _start(state: State, special_tokens: Mapping[str, str]) -> str:
    """The token that the tokenizer puts before every text, if it does."""
    first = BpeTokenizer.from_str(json.dumps(state)).encode("").tokens[:1]
    return first[0] if first == [special_tokens.get("bos_token")] else ""


# -- chats -----------------------------------------------------------------------------------------------------------


def _chat_format(
    folder: Path, config: State, special_tokens: Mapping[str, str], start: str, log: Callable[[str], None]
) -> ChatFormat:
    template = _template(folder, config)
    if template is not None:
        return read_chat_template(template, special_tokens, start, log)
    log("it has no chat template: each message is written below <|user|> or <|assistant|>, then the end token")
    return plain_format(special_tokens, start)


def _template(folder: Path, config: State) -> str | None:
    """The chat template, which has a file of its own in newer folders; of several the one named default."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        template = {named["name"]: named["template"] for named in template}.get("default")
    return template


def plain_format(special_tokens: Mapping[str, str], start: str) -> ChatFormat:
    """The layout of a tokenizer that brings none: roles as text, since it has no tokens for them.

    Raises:
        ValueError: it names no end token.
    """
    if "eos_token" not in special_tokens:
        raise ValueError("tokenizer_config.json names no eos_token; add the token that ends a text")
    before = {role: f"<|{role}|>\n" for role in ROLE_TOKENS}
    return ChatFormat(start=start, before=before, after=dict.fromkeys(ROLE_TOKENS, special_tokens["eos_token"] + "\n"))


def _with_spaces(chat: ChatFormat) -> ChatFormat:
    """Every message has a space before it, since SentencePiece's first token of a text holds one."""
    before = {role: marker.removesuffix(" ") + " " for role, marker in chat.before.items()}
    return chat.model_copy(update={"before": before})


# -- tokens ----------------------------------------------------------------------------------------------------------


def _with_needed_tokens(state: State) -> State:
    """The tokenizer with new ids for what training needs, and for bytes without which some texts would be lost."""
    vocab, size = dict(state["model"]["vocab"]), _size(state)
    if not state["model"].get("byte_fallback"):
        missing = [character for character in byte_characters() if character not in vocab]
        vocab |= {character: size + number for number, character in enumerate(missing)}
        size += len(missing)
    known = {token["content"] for token in state["added_tokens"]}
    needed = [token for token in NEEDED_TOKENS if token not in known]
    ids = {token: vocab[token] if token in vocab else size + number for number, token in enumerate(needed)}
    added = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": token not in (THINK, END_THINK)}
        for token, number in ids.items()
    ]  # fmt: skip
    return {**state, "model": {**state["model"], "vocab": vocab}, "added_tokens": [*state["added_tokens"], *added]}


def _spaced_at_the_start_only(state: State) -> State:
    """SentencePiece's tokenizer with a space before a text but not after every special token.

    Older files put one there too, so that the ids of a chat would depend on where it is cut.
    """
    metaspace = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
    return {**state, "normalizer": None, "pre_tokenizer": metaspace}


def _check_round_trip(tokenizer: Tokenizer) -> None:
    for probe in (*PROBES, "".join(tokenizer.special_ids)):
        found = tokenizer.decode(tokenizer.encode(probe))
        if found != probe:
            raise ValueError(f"the tokenizer makes {found!r} of {probe!r}; Octavo takes tokenizers that change nothing")

"""Byte-level BPE over the `tokenizers` library, with the chat form of training and serving. Imports no torch.

A document is `<|bos|> text <|end|>`; a chat is `<|bos|>` and then, for each message, its role's token, its content
and `<|end|>`. Text never turns into a special token, whoever wrote it; only what the assistant says may hold
`<think>` and `</think>` as tokens.
"""

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer as BpeTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from trainer.spec import Message

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
THINK, END_THINK = "<think>", "</think>"
FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
SPECIAL_TOKENS = (PAD, BOS, END, *ROLE_TOKENS.values(), THINK, END_THINK, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)

CHAT_TEMPLATE = (
    "{{ '" + BOS + "' }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '" + END + "' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '" + ROLE_TOKENS["assistant"] + "' }}{% endif %}"
)

# Between "<" and "think>" the pre-tokenizer always has a border, so text cut there has the ids of the whole,
# and neither half is taken for the token.
_INSIDE_THINK = re.compile(r"(?<=<)(?=think>)|(?<=</)(?=think>)")
_THINK_TOKENS = re.compile(f"({re.escape(THINK)}|{re.escape(END_THINK)})")


class Tokenizer:
    """Text and chats to token ids and back; `decode(encode(text)) == text` for any Unicode text."""

    pad_id: int
    bos_id: int
    end_id: int

    def __init__(self, bpe: BpeTokenizer) -> None:
        # A runtime switch that the file does not store: special tokens in a text are text.
        bpe.encode_special_tokens = True
        self._bpe = bpe
        self.special_ids = {token: _special_id(bpe, token) for token in SPECIAL_TOKENS}
        self.pad_id, self.bos_id, self.end_id = (self.special_ids[token] for token in (PAD, BOS, END))
        self._bytes = _bytes_of_tokens(bpe)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> Self:
        """Learn merges from `texts`; the same texts in the same order give the same tokenizer.

        Raises:
            ValueError: the texts hold too few different pairs for a vocabulary of `vocab_size`.
        """
        bpe = BpeTokenizer(models.BPE())
        digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)
        bpe.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        bpe.train_from_iterator(texts, trainer=trainer)
        if bpe.get_vocab_size() != vocab_size:
            raise ValueError(
                f"the texts are enough for {bpe.get_vocab_size()} tokens, not for vocab_size {vocab_size}; "
                "give more text or lower vocab_size"
            )
        return cls(_with_visible_think(bpe))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what `save` wrote.

        Raises:
            ValueError: there is no tokenizer.json, or one that lacks our special tokens.
        """
        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"{path} does not exist: the folder holds no tokenizer")
        return cls(BpeTokenizer.from_file(str(path)))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as Hugging Face lays them out."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._bpe.save(str(folder / "tokenizer.json"))
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": END,
            "pad_token": PAD,
            "additional_special_tokens": [*ROLE_TOKENS.values(), FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))

    @property
    def vocab_size(self) -> int:
        return self._bpe.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text; nothing in it becomes a special token."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once, in parallel where the library may."""
        pieces = [_INSIDE_THINK.split(text) for text in texts]
        encoded = iter(
            self._bpe.encode_batch_fast([piece for split in pieces for piece in split], add_special_tokens=False)
        )
        return [[token for _ in split for token in next(encoded).ids] for split in pieces]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: special tokens are left out but for `<think>` and `</think>`; bytes that are no UTF-8
        become U+FFFD."""
        return b"".join(self._bytes[token] for token in ids).decode("utf-8", errors="replace")

    def byte_lengths(self, ids: Sequence[int]) -> list[int]:
        """How many bytes of text each token stands for; 0 for special tokens."""
        return [len(self._bytes[token]) for token in ids]

    def decode_stream(self) -> "DecodeStream":
        return DecodeStream(self._bytes)

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """A chat's ids, and a mask of the same length: true on what the assistant says with its closing `<|end|>`.

        With `add_generation_prompt` the ids end in `<|assistant|>`, where the assistant is to go on.
        """
        ids, mask = self.encode_chats([messages])[0]
        if add_generation_prompt:
            return [*ids, self.special_ids[ROLE_TOKENS["assistant"]]], [*mask, False]
        return ids, mask

    def encode_chats(self, chats: Sequence[Sequence[Message]]) -> list[tuple[list[int], list[bool]]]:
        """`encode_chat` of many chats at once."""
        contents = [_pieces(message) for chat in chats for message in chat]
        plain = [piece for pieces in contents for piece in pieces if piece not in self.special_ids]
        encoded = iter(self.encode_batch(plain))
        content_ids = iter(
            [
                [
                    token
                    for piece in pieces
                    for token in ([self.special_ids[piece]] if piece in self.special_ids else next(encoded))
                ]
                for pieces in contents
            ]
        )
        return [self._join(chat, [next(content_ids) for _ in chat]) for chat in chats]

    def _join(self, chat: Sequence[Message], contents: Sequence[list[int]]) -> tuple[list[int], list[bool]]:
        ids, mask = [self.bos_id], [False]
        for message, content in zip(chat, contents, strict=True):
            ids += [self.special_ids[ROLE_TOKENS[message.role]], *content, self.end_id]
            mask += [False] + [message.role == "assistant"] * (len(content) + 1)
        return ids, mask


class DecodeStream:
    """Text token by token: each `push` returns what has become certain, never half a character."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(self._token_bytes[token])

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was cut off, else nothing."""
        return self._decoder.decode(b"", final=True)


def _pieces(message: Message) -> list[str]:
    """A message's content, cut at think tokens where they may be tokens."""
    return _THINK_TOKENS.split(message.content) if message.role == "assistant" else [message.content]


def _special_id(bpe: BpeTokenizer, token: str) -> int:
    found = bpe.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer has no token '{token}'; it was not made by Octavo's tokenize job")
    return int(found)


def _with_visible_think(bpe: BpeTokenizer) -> BpeTokenizer:
    """Mark the think tokens as not special, so that other readers of the file keep them when they decode."""
    state = json.loads(bpe.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] not in (THINK, END_THINK)
    return BpeTokenizer.from_str(json.dumps(state))


def _bytes_of_tokens(bpe: BpeTokenizer) -> list[bytes]:
    """Token id -> the bytes it stands for; none for special tokens."""
    byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
    table = []
    for token in range(bpe.get_vocab_size()):
        text = bpe.id_to_token(token)
        assert text is not None
        if text in (THINK, END_THINK):
            table.append(text.encode())
        else:
            table.append(b"" if text in SPECIAL_TOKENS else bytes(byte_of[character] for character in text))
    return table


def _byte_characters() -> list[str]:
    """The printable character that stands for each byte 0..255 in a byte-level vocabulary (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    shifted = (chr(256 + offset) for offset in range(256))
    return [chr(byte) if byte in printable else next(shifted) for byte in range(256)]

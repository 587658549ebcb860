"""Text and chats to token ids and back, the same for training and serving. Imports no torch.

A document is its start, the text and the end token; a chat is laid out by a `ChatFormat`. In our own tokenizers a
document is `<|bos|> text <|end|>`; a chat is `<|bos|>` and then, for each message, its role's token, its content and
`<|end|>`. Text never turns into a special token, whoever wrote it; only what the assistant says may hold `<think>` and
`</think>` as tokens.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tokenizers import Tokenizer as BpeTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers

from trainer.data.bpe import Bpe
from trainer.data.chat_format import ChatFormat
from trainer.spec import Message, Role, explain

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLE_TOKENS: dict[Role, str] = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
THINK, END_THINK = "<think>", "</think>"
FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
NEEDED_TOKENS = (THINK, END_THINK, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)  # by every tokenizer; the others are our own's
SPECIAL_TOKENS = (PAD, BOS, END, *ROLE_TOKENS.values(), *NEEDED_TOKENS)
CHAT_FORMAT = ChatFormat(start=BOS, before=ROLE_TOKENS, after=dict.fromkeys(ROLE_TOKENS, END))

_THINK_TOKENS = re.compile(f"({re.escape(THINK)}|{re.escape(END_THINK)})")


class Tokenizer:
    """Text and chats to token ids and back; `decode(encode(text)) == text` for any Unicode text.

    Attributes:
        file: the text of its tokenizer.json.
        chat: how chats are laid out.
        special_ids: tokens that no text turns into, with their ids.
        start_ids: what stands before a document; nothing in some tokenizers from elsewhere.
        end_id: the token that ends a document and what the assistant says.
    """

    def __init__(self, file: str, chat: ChatFormat, pad: str | None = None) -> None:
        """Args: pad: the token that fills rows; by default the end token.

        Raises:
            ValueError: the file or the format does not fit; says what is missing.
        """
        self.file, self.chat = file, chat
        self._bpe = Bpe(file)
        self._bytes = self._bpe.token_bytes
        self._byte_lengths_V = np.array([len(token) for token in self._bytes], dtype=np.int64)
        self.special_ids = self._bpe.added
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        self._specials = re.compile(f"({'|'.join(re.escape(token) for token in longest_first)})")
        self.end_id = self._end_id()
        self.pad_id = self.end_id if pad is None else self.special_ids[pad]
        self.start_ids = self._marker(chat.start)
        self._default_system = self._marker(chat.default_system)
        self._before = {role: self._marker(self._unspaced(chat.before[role])) for role in ROLE_TOKENS}
        self._after = {role: self._marker(chat.after[role]) for role in ROLE_TOKENS}

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
        return cls(_with_visible_think(bpe), CHAT_FORMAT, PAD)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what `save` wrote.

        Raises:
            ValueError: a file is missing, or was not written by `save`.
        """
        path, config_path = Path(folder) / "tokenizer.json", Path(folder) / "tokenizer_config.json"
        for file in (path, config_path):
            if not file.is_file():
                raise ValueError(f"{file} does not exist: the folder holds no tokenizer")
        config = json.loads(config_path.read_text(encoding="utf-8"))
        if "chat_format" not in config:
            raise ValueError(f"{config_path} has no chat_format: not Octavo's; an import job takes such tokenizers")
        try:
            chat = ChatFormat.model_validate(config["chat_format"])
        except ValidationError as error:
            raise ValueError(f"{config_path}: chat_format: {explain(error)}") from error
        return cls(path.read_text(encoding="utf-8"), chat, config["pad_token"])

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as Hugging Face lays them out."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(self.file, encoding="utf-8")
        token_of = {number: token for token, number in self.special_ids.items()}
        named = {"eos_token": token_of[self.end_id], "pad_token": token_of[self.pad_id]}
        if self.start_ids:
            named["bos_token"] = token_of[self.start_ids[0]]
        special = [token for token, number in self.special_ids.items() if not self._bytes[number]]
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **named,
            "additional_special_tokens": [token for token in special if token not in named.values()],
            "clean_up_tokenization_spaces": False,
            "chat_template": self.chat.template(spaced=self._bpe.spaced),
            "chat_format": self.chat.model_dump(),
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        return len(self._bytes)

    def encodes_like(self, other: "Tokenizer") -> bool:
        """Whether both give the same ids for every text and chat."""
        return (self.file, self.chat) == (other.file, other.chat)

    def encode(self, text: str) -> list[int]:
        """Ids of a plain text; nothing in it becomes a special token."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts at once, in parallel where the library may."""
        return self._bpe.encode([self._spaced(text) for text in texts])

    def encode_parts(self, text: str, longest: int) -> Iterator[list[int]]:
        """Ids of a long text in parts of at most so many characters, cut before line breaks where there are any.
        Together they decode to the text."""
        text = self._spaced(text)
        start = 0
        while start < len(text):
            stop = start + longest
            line_break = text.rfind("\n", start + 1, stop)
            if stop < len(text) and line_break > 0:
                stop = line_break
            yield self._bpe.encode([text[start:stop]])[0]
            start = stop

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: special tokens are left out but for `<think>` and `</think>`; bytes that are no UTF-8
        become U+FFFD."""
        text = b"".join(self.bytes_of(ids))
        return (text.removeprefix(b" ") if self._bpe.spaced else text).decode("utf-8", errors="replace")

    def token_text(self, token: int) -> str:
        """What one token adds within a text."""
        return self.token_bytes(token).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes one token stands for within a text; none for special tokens."""
        return self._bpe.bytes_of(token)

    def bytes_of(self, ids: Sequence[int]) -> list[bytes]:
        """The bytes of text that each token stands for; none for special tokens."""
        return [self._bpe.bytes_of(token) for token in ids]

    def byte_lengths(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """How many bytes of text each token of the vocabulary stands for."""
        return self._byte_lengths_V[ids]

    def decode_stream(self) -> "DecodeStream":
        return DecodeStream(self._bpe)

    def encode_document(self, ids: Sequence[int], *, begins: bool = True, ends: bool = True) -> list[int]:
        """A document of a text's ids, or the part of one that it begins or ends with."""
        return [*(self.start_ids if begins else ()), *ids, *((self.end_id,) if ends else ())]

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = False
    ) -> tuple[list[int], list[bool]]:
        """A chat's ids, and a mask of the same length: true on what the assistant says with its closing end token.

        With `add_generation_prompt` the ids end where the assistant is to go on.
        """
        ids, mask = self.encode_chats([messages])[0]
        if add_generation_prompt:
            prompt = self._before["assistant"]
            return [*ids, *prompt], [*mask, *[False] * len(prompt)]
        return ids, mask

    def encode_chats(self, chats: Sequence[Sequence[Message]]) -> list[tuple[list[int], list[bool]]]:
        """`encode_chat` of many chats at once."""
        pieces = [self._pieces(message) for chat in chats for message in chat]
        encoded = iter(self._bpe.encode([piece for split in pieces for piece in split if isinstance(piece, str)]))
        contents = iter(
            [
                [token for piece in split for token in ([piece] if isinstance(piece, int) else next(encoded))]
                for split in pieces
            ]
        )
        return [self._join(chat, [next(contents) for _ in chat]) for chat in chats]

    def _pieces(self, message: Message) -> list[str | int]:
        """A message's content, with think tokens as ids where they may be tokens."""
        content = self._spaced(message.content)
        if message.role != "assistant":
            return [content]
        pieces = _THINK_TOKENS.split(content)
        return [self.special_ids[piece] if piece in (THINK, END_THINK) else piece for piece in pieces]

    def _join(self, chat: Sequence[Message], contents: Sequence[list[int]]) -> tuple[list[int], list[bool]]:
        ids = list(self.start_ids)
        if chat and chat[0].role != "system":
            ids += self._default_system
        mask = [False] * len(ids)
        for message, content in zip(chat, contents, strict=True):
            before, after = self._before[message.role], self._after[message.role]
            ids += [*before, *content, *after]
            counted = len(content) + after.index(self.end_id) + 1 if message.role == "assistant" else 0
            mask += [False] * len(before) + [True] * counted + [False] * (len(content) + len(after) - counted)
        return ids, mask

    def _spaced(self, text: str) -> str:
        """The text as the vocabulary wants it: SentencePiece's has a space before every one."""
        return " " + text if self._bpe.spaced and text else text

    def _unspaced(self, marker: str) -> str:
        """A marker before a message without the space that `_spaced` puts there."""
        return marker.removesuffix(" ") if self._bpe.spaced else marker

    def _marker(self, text: str) -> list[int]:
        """Ids of a marker, in which special tokens are written out."""
        ids = []
        for piece in self._specials.split(text):
            ids += [self.special_ids[piece]] if piece in self.special_ids else self._bpe.encode([piece])[0]
        return ids

    def _end_id(self) -> int:
        closing = self.chat.after["assistant"]
        found = self._specials.search(closing)
        if not found or not found[0]:
            raise ValueError(f"what ends an answer, {closing!r}, holds no special token of the tokenizer")
        return self.special_ids[found[0]]


class DecodeStream:
    """Text token by token: each `push` returns what has become certain, never half a character."""

    def __init__(self, bpe: Bpe) -> None:
        self._bpe, self._at_start = bpe, bpe.spaced
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        piece = self._bpe.bytes_of(token)
        if self._at_start and piece:
            piece, self._at_start = piece.removeprefix(b" "), False
        return self._decoder.decode(piece)

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was cut off, else nothing."""
        return self._decoder.decode(b"", final=True)


def _with_visible_think(bpe: BpeTokenizer) -> str:
    """The tokenizer's file with the think tokens marked as not special, so that other readers keep them when they
    decode."""
    state = json.loads(bpe.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] not in (THINK, END_THINK)
    return json.dumps(state, ensure_ascii=False, indent=1)

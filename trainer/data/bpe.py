"""The vocabulary of a tokenizer.json applied to text so that nothing is lost and nothing becomes a token that text
must not hold. Imports no torch.

Two families cover Llama, Mistral and their kin: *byte-level* BPE (GPT-2's printable characters stand for bytes), and
*spaced* BPE (SentencePiece's: "▁" stands for a space, one is put before every text, and a character without a token
falls back to the tokens of its bytes, `<0x0A>`).
"""

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer as BpeTokenizer

SPACE = "▁"
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))


class Bpe:
    """Text to ids, and each id to the bytes it stands for.

    Attributes:
        added: tokens that stand beside the vocabulary, as markers do, with their ids; `encode` gives none of them.
        token_bytes: by id; none for a special token.
        spaced: whether the vocabulary is SentencePiece's.
    """

    def __init__(self, file: str) -> None:
        """Args: file: the text of a tokenizer.json.

        Raises:
            ValueError: it is no BPE, or a token of it stands for no bytes.
        """
        state = json.loads(file)
        model = state["model"]
        if model.get("type", "BPE") != "BPE":
            raise ValueError(f"the tokenizer is a {model['type']}; Octavo takes BPE: byte-level or with byte fallback")
        self.added: dict[str, int] = {token["content"]: token["id"] for token in state["added_tokens"]}
        self.spaced = bool(model.get("byte_fallback"))
        if self.spaced and not model["vocab"].keys() >= {*BYTE_TOKENS}:
            raise ValueError("the tokenizer falls back to bytes but lacks some of the tokens <0x00> to <0xFF>")
        self.token_bytes = _bytes_of_tokens(state, self.spaced)
        self._space_ids = [model["vocab"][BYTE_TOKENS[byte]] for byte in SPACE.encode()] if self.spaced else []
        self._bpe = BpeTokenizer.from_str(json.dumps(_for_text(state, self.spaced)))

    def bytes_of(self, token: int) -> bytes:
        """None too for the ids that a network may have beyond the vocabulary, to fill its matrices up."""
        return self.token_bytes[token] if token < len(self.token_bytes) else b""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text as it stands; the space that a spaced vocabulary wants before it is the caller's."""
        pieces = [text.split(SPACE) if self.spaced else [text] for text in texts]
        encoded = iter(self._bpe.encode_batch_fast([piece for split in pieces for piece in split]))
        found = []
        for split in pieces:
            ids = next(encoded).ids
            for _ in split[1:]:
                ids = [*ids, *self._space_ids, *next(encoded).ids]
            found.append(ids)
        return found


def _for_text(state: dict[str, Any], spaced: bool) -> dict[str, Any]:
    """The tokenizer without what text must not turn into, and without what it would add to a text."""
    model, added = state["model"], {token["content"] for token in state["added_tokens"]}
    # The text "<0x0A>" must not become the byte token of that name either.
    unreachable = added | ({*BYTE_TOKENS} if spaced else set())
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    merges = [pair for pair in merges if unreachable.isdisjoint((*pair, "".join(pair)))]
    vocab = {token: number for token, number in model["vocab"].items() if token not in added}
    model = {**model, "vocab": vocab, "merges": merges, "unk_token": None}
    bare = {**state, "model": model, "added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    if spaced:
        bare["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        bare["pre_tokenizer"] = None
    return bare


def _bytes_of_tokens(state: dict[str, Any], spaced: bool) -> list[bytes]:
    """Token id -> its bytes; none for special tokens and for ids that no token has."""
    added = {token["content"]: token for token in state["added_tokens"]}
    ids = {**state["model"]["vocab"], **{content: token["id"] for content, token in added.items()}}
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    table = [b""] * (max(ids.values()) + 1)
    for text, number in ids.items():
        if text in added:
            table[number] = b"" if added[text]["special"] else text.encode()
        elif spaced:
            is_byte = text in BYTE_TOKENS
            table[number] = bytes([BYTE_TOKENS.index(text)]) if is_byte else text.replace(SPACE, " ").encode()
        elif set(text) <= byte_of.keys():
            table[number] = bytes(byte_of[character] for character in text)
        else:
            raise ValueError(f"token {text!r} of the tokenizer stands for no bytes; Octavo takes byte-level BPE")
    return table


def byte_characters() -> list[str]:
    """The printable character that stands for each byte 0..255 in a byte-level vocabulary (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    shifted = (chr(256 + offset) for offset in range(256))
    return [chr(byte) if byte in printable else next(shifted) for byte in range(256)]

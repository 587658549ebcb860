"""From records and problems to pieces of tokens: documents, code with a gap to fill, chats."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.data.packing import Piece
from trainer.data.structure.labels import label_bytes, label_tokens
from trainer.data.tokenizer import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer
from trainer.spec import DOMAINS, Message, Problem, Record

FIM_SHARE = 0.5  # of the code chunks; the others are plain continuations
MULTI_TURN_SHARE = 0.3  # of the problems are asked in conversations of several
MOST_TURNS = 3
# Characters of a code chunk per token of context: nearly every chunk fits its row with the gap's tokens.
_CHARACTERS_PER_TOKEN = (0.2, 1.6)
_BATCH = 256

Chat = list[Message]
Item = TypeVar("Item")


def document_pieces(tokenizer: Tokenizer, records: Iterable[Record]) -> Iterator[Piece]:
    """Each text as a document; all but its first token count."""
    for batch in _batches(records):
        encoded = tokenizer.encode_batch([record.text for record in batch])
        for ids, record in zip(encoded, batch, strict=True):
            yield _piece(tokenizer, tokenizer.encode_document(ids), record, label_bytes(record))


def completion_pieces(tokenizer: Tokenizer, records: Iterable[Record], context: int, rng: Random) -> Iterator[Piece]:
    """Chunks of code, some with a gap: prefix, suffix, then the middle (the order PSM of arXiv:2207.14255).

    A chunk that would not fit a row with its gap is a plain continuation, cut at the end of the row. Only the last of
    a document has the end token then: code does not end where a chunk does.
    """
    for batch in _batches(chunk for record in records for chunk in _labelled_chunks(record, context, rng)):
        cuts = [_gap(text, rng) if rng.random() < FIM_SHARE else (len(text), len(text)) for text, *_ in batch]
        parts = [
            part
            for (text, *_), (start, stop) in zip(batch, cuts, strict=True)
            for part in (text[:start], text[start:stop], text[stop:])
        ]
        encoded = iter(tokenizer.encode_batch(parts))
        for (text, labels, last, record), (start, stop) in zip(batch, cuts, strict=True):
            prefix, middle, suffix = next(encoded), next(encoded), next(encoded)
            ids = _with_gap(tokenizer, prefix, middle, suffix)
            plain = start == stop or len(ids) > context
            if plain:
                # Parts encoded by themselves are not always the whole: SentencePiece's get a space each.
                whole = prefix if start == len(text) else tokenizer.encode(text)
                document = tokenizer.encode_document(whole)
                ids = (document if last else document[:-1])[:context]
            yield _piece(tokenizer, ids, record, labels if plain else _gap_last(text, labels, start, stop))


def _gap_last(text: str, labels: NDArray[np.int8], start: int, stop: int) -> NDArray[np.int8]:
    """A chunk's labels in the order prefix, suffix, middle."""
    before, until = len(text[:start].encode()), len(text[:stop].encode())
    return np.concatenate([labels[:before], labels[until:], labels[before:until]])


def _with_gap(tokenizer: Tokenizer, prefix: list[int], middle: list[int], suffix: list[int]) -> list[int]:
    before, after, between = (tokenizer.special_ids[token] for token in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
    return tokenizer.encode_document([before, *prefix, after, *suffix, between, *middle])


def chats(
    problems: Sequence[Problem], worked_share: float, rng: Random, by_level: Mapping[int, float] | None = None
) -> Iterator[Chat]:
    """Problems as conversations in the order given: one question each, or several in a row.

    `worked_share` of the answers show the working, or `by_level` where it names the problem's level; the others are
    direct.
    """
    position = 0
    while position < len(problems):
        # A conversation of several turns uses up more problems than one of a single turn.
        several = rng.random() < MULTI_TURN_SHARE / ((1 + MOST_TURNS) / 2)
        count = rng.randint(2, MOST_TURNS) if several else 1
        chat: Chat = []
        for problem in problems[position : position + count]:
            share = (by_level or {}).get(problem.level, worked_share)
            answer = problem.solution if rng.random() < share else problem.direct
            chat += [Message(role="user", content=problem.prompt), Message(role="assistant", content=answer)]
        yield chat
        position += count


def chat_pieces(tokenizer: Tokenizer, conversations: Sequence[Chat], context: int) -> list[Piece]:
    """Chats that fit a row; the assistant's tokens count. A conversation that is too long loses its last turns.

    Raises:
        ValueError: not even one exchange of a conversation fits `context`.
    """
    pieces = []
    science = DOMAINS.index("science")
    for chat, (ids, mask) in zip(conversations, tokenizer.encode_chats(conversations), strict=True):
        while len(ids) > context:
            chat = chat[:-2]
            if not chat:
                raise ValueError(
                    f"a question with its answer takes {len(ids)} tokens, more than a row of context {context}; "
                    "raise context or vocab_size, or lower the problems' levels"
                )
            ids, mask = tokenizer.encode_chat(chat)
        pieces.append(Piece(ids, mask, science))
    return pieces


def _piece(tokenizer: Tokenizer, ids: list[int], record: Record, labels: NDArray[np.int8]) -> Piece:
    """A piece of whose tokens all but the first count; `labels` are those of the bytes that the ids stand for."""
    structure = label_tokens(labels, [len(text) for text in tokenizer.bytes_of(ids)])
    return Piece(ids, [False] + [True] * (len(ids) - 1), DOMAINS.index(record.domain), structure)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Lists of items: encoding many texts at once is fast, encoding all of them before one is used is not."""
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch


def _chunks(text: str, context: int, rng: Random) -> Iterator[str]:
    """The text in whole lines of together at most some characters; a longer line stands alone. Chunks differ in
    length, so that rows fill."""
    chunk, limit = "", 0.0
    for line in text.splitlines(keepends=True):
        if chunk and len(chunk) + len(line) > limit:
            yield chunk
            chunk = ""
        if not chunk:
            limit = context * rng.uniform(*_CHARACTERS_PER_TOKEN)
        chunk += line
    if chunk:
        yield chunk


def _labelled_chunks(record: Record, context: int, rng: Random) -> Iterator[tuple[str, NDArray[np.int8], bool, Record]]:
    """Chunks of a text with the labels of their bytes, from one parse of the whole, and whether it is the last."""
    labels, start = label_bytes(record), 0
    for chunk in _chunks(record.text, context, rng):
        stop = start + len(chunk.encode())
        yield chunk, labels[start:stop], stop == len(labels), record
        start = stop


def _gap(chunk: str, rng: Random) -> tuple[int, int]:
    first, second = sorted(rng.randint(0, len(chunk)) for _ in range(2))
    return first, second

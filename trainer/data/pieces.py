"""From records and problems to pieces of tokens: documents, code with a gap to fill, chats.

The parts of a piece name items by their place in what was given.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from random import Random
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.data.conversations import chat_of
from trainer.data.packing import Part, Piece
from trainer.data.structure.labels import label_bytes, label_tokens
from trainer.data.tokenizer import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Tokenizer
from trainer.spec import DOMAINS, Domain, Message, Problem, Record

FIM_SHARE = 0.5  # of the code chunks have a gap; the others are plain continuations
SPM_SHARE = 0.5  # of the gaps: suffix, prefix, middle; the others prefix, suffix, middle
MULTI_TURN_SHARE = 0.3  # of the problems are asked in conversations of several
MOST_TURNS = 3
# Characters of a code chunk per token of context: nearly every chunk fits its row with the gap's tokens.
_CHARACTERS_PER_TOKEN = (0.2, 1.6)
_BATCH = 256
_LONGEST = 1_000_000  # characters of a text that are encoded at once

Chat = list[Message]
Item = TypeVar("Item")


class Chunk(NamedTuple):
    """Some lines of code with the labels of their bytes, and whether the document ends with them."""

    text: str
    labels: NDArray[np.int8]
    last: bool
    domain: Domain
    item: int


class Gap(NamedTuple):
    """The characters of a chunk that are to be filled in, and whether what follows them is told first."""

    start: int
    stop: int
    suffix_first: bool


def document_pieces(tokenizer: Tokenizer, records: Iterable[Record]) -> Iterator[Piece]:
    """Each text as a document; all but its first token count. A very long one is several pieces, which follow each
    other."""
    item = 0
    for batch in _batches(records):
        encoded = iter(tokenizer.encode_batch([record.text for record in batch if len(record.text) <= _LONGEST]))
        for record in batch:
            whole = len(record.text) <= _LONGEST
            parts = [next(encoded)] if whole else tokenizer.encode_parts(record.text, _LONGEST)
            yield from _document(tokenizer, parts, record, item)
            item += 1


def _document(tokenizer: Tokenizer, parts: Iterable[list[int]], record: Record, item: int) -> Iterator[Piece]:
    """The pieces of a document, given the ids of its text in parts."""
    labels, labelled, start = label_bytes(record), 0, 0
    for part, is_last in _with_last(parts):
        ids = tokenizer.encode_document(part, begins=start == 0, ends=is_last)
        length = int(tokenizer.byte_lengths(ids).sum())
        structure = _structure(tokenizer, ids, labels[labelled : labelled + length])
        counts = [start > 0] + [True] * (len(ids) - 1)
        yield Piece(ids, counts, DOMAINS.index(record.domain), structure, (Part(item, start, len(ids)),))
        labelled, start = labelled + length, start + len(ids)


def completion_pieces(tokenizer: Tokenizer, records: Iterable[Record], context: int, rng: Random) -> Iterator[Piece]:
    """Chunks of code, some with a gap to fill.

    A chunk that would not fit a row with its gap is a plain continuation, cut at the end of the row. Only the last of
    a document has the end token then: code does not end where a chunk does.
    """
    chunks = (chunk for item, record in enumerate(records) for chunk in _chunks_of(record, item, context, rng))
    lengths: Counter[int] = Counter()
    for batch in _batches(chunks):
        gaps = [_gap(chunk.text, rng) for chunk in batch]
        texts = [_in_order(chunk.text, gap) for chunk, gap in zip(batch, gaps, strict=True)]
        encoded = iter(tokenizer.encode_batch([part for parts in texts for part in parts]))
        for chunk, gap, parts in zip(batch, gaps, texts, strict=True):
            ids = _marked(tokenizer, [next(encoded) for _ in parts], ends=gap is not None or chunk.last)
            labels = _labels_in_order(chunk, gap)
            if gap is not None and len(ids) > context:
                # Parts encoded by themselves are not always the whole: SentencePiece's get a space each.
                ids, labels = tokenizer.encode_document(tokenizer.encode(chunk.text), ends=chunk.last), chunk.labels
            ids = ids[:context]
            part = Part(chunk.item, lengths[chunk.item], len(ids))
            lengths[chunk.item] += len(ids)
            structure = _structure(tokenizer, ids, labels)
            yield Piece(ids, [False] + [True] * (len(ids) - 1), DOMAINS.index(chunk.domain), structure, (part,))


def _in_order(text: str, gap: Gap | None) -> list[str]:
    """A chunk's parts in the order that the network reads them."""
    if gap is None:
        return [text]
    prefix, middle, suffix = text[: gap.start], text[gap.start : gap.stop], text[gap.stop :]
    return [suffix, prefix + middle] if gap.suffix_first else [prefix, suffix, middle]


def _labels_in_order(chunk: Chunk, gap: Gap | None) -> NDArray[np.int8]:
    """The labels of the bytes of `_in_order`."""
    if gap is None:
        return chunk.labels
    before, until = len(chunk.text[: gap.start].encode()), len(chunk.text[: gap.stop].encode())
    prefix, middle, suffix = np.split(chunk.labels, [before, until])
    return np.concatenate([suffix, prefix, middle] if gap.suffix_first else [prefix, suffix, middle])


def _marked(tokenizer: Tokenizer, parts: list[list[int]], *, ends: bool) -> list[int]:
    """A document of a chunk's parts: the whole; `<pre> prefix <suf> suffix <mid> middle` (PSM); or `<pre> <suf> suffix
    <mid> prefix middle`, the variant of SPM that shares most with it (arXiv:2207.14255, appendix D)."""
    before, after, between = (tokenizer.special_ids[token] for token in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
    match parts:
        case [prefix, suffix, middle]:
            ids = [before, *prefix, after, *suffix, between, *middle]
        case [suffix, rest]:
            ids = [before, after, *suffix, between, *rest]
        case _:
            (ids,) = parts
    return tokenizer.encode_document(ids, ends=ends)


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


def problem_pieces(tokenizer: Tokenizer, conversations: Sequence[Chat], context: int) -> list[Piece]:
    """Conversations about problems, each question with its answer a part of its piece.

    Raises:
        ValueError: not even one exchange of a conversation fits `context`.
    """
    pieces, item = [], 0
    science = DOMAINS.index("science")
    for chat, (ids, mask) in zip(conversations, tokenizer.encode_chats(conversations), strict=True):
        ends = _answer_ends(mask, context)
        if not ends:
            raise ValueError(
                f"a question with its answer takes {_answer_ends(mask, len(mask))[0]} tokens, more than a row of "
                f"context {context}; raise context or vocab_size, or lower the problems' levels"
            )
        parts = tuple(Part(item + turn, 0, end - start) for turn, (start, end) in enumerate(pairwise([0, *ends])))
        pieces.append(Piece(ids[: ends[-1]], mask[: ends[-1]], science, None, parts))
        item += len(chat) // 2
    return pieces


def conversation_pieces(tokenizer: Tokenizer, records: Iterable[Record], context: int) -> Iterator[Piece]:
    """Dialogues up to the last answer that ends within a row; none where no answer does."""
    item = 0
    for batch in _batches(records):
        for record, (ids, mask) in zip(
            batch, tokenizer.encode_chats([chat_of(record) for record in batch]), strict=True
        ):
            ends = _answer_ends(mask, context)
            if ends:
                part = Part(item, 0, ends[-1])
                yield Piece(ids[: part.length], mask[: part.length], DOMAINS.index(record.domain), None, (part,))
            item += 1


def _answer_ends(mask: Sequence[bool], context: int) -> list[int]:
    """Where each thing that the assistant says ends, as far as that is within the first `context` tokens."""
    return [
        place for place in range(1, min(len(mask), context) + 1) if mask[place - 1] and not any(mask[place : place + 1])
    ]


def _structure(tokenizer: Tokenizer, ids: list[int], labels: NDArray[np.int8]) -> list[int]:
    return label_tokens(labels, tokenizer.byte_lengths(ids))


def _with_last(items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """Each item, and whether it is the last."""
    iterator = iter(items)
    item = next(iterator)
    for following in iterator:
        yield item, False
        item = following
    yield item, True


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


def _chunks_of(record: Record, item: int, context: int, rng: Random) -> Iterator[Chunk]:
    """Chunks of a text with the labels of their bytes, from one parse of the whole."""
    labels, start = label_bytes(record), 0
    for text in _chunks(record.text, context, rng):
        stop = start + len(text.encode())
        yield Chunk(text, labels[start:stop], stop == len(labels), record.domain, item)
        start = stop


def _gap(text: str, rng: Random) -> Gap | None:
    if rng.random() >= FIM_SHARE:
        return None
    start, stop = sorted(rng.randint(0, len(text)) for _ in range(2))
    return Gap(start, stop, rng.random() < SPM_SHARE) if start < stop else None

"""Items of a corpus to encoded pieces, in this process or in several; the pieces are the same, in the same order."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path
from random import Random
from typing import NamedTuple

from trainer.data.corpus import Corpus, Kind
from trainer.data.encoded import Encoded
from trainer.data.packing import Piece
from trainer.data.pieces import chats, completion_pieces, conversation_pieces, document_pieces, problem_pieces
from trainer.data.tokenizer import Tokenizer
from trainer.spec import Problem, Record, TokenizeSpec

_BATCH_CHARACTERS, _BATCH_ITEMS = 400_000, 256
_AHEAD = 3  # batches that wait for a process, for each of them


class Batch(NamedTuple):
    """Numbers of items of one kind, and their lines."""

    kind: Kind
    items: list[int]
    lines: list[bytes]


@dataclass(frozen=True)
class Encoder:
    """What the pieces of an item depend on, besides the item."""

    tokenizer: Path
    spec: TokenizeSpec

    def documents(self, batch: Batch) -> list[Encoded]:
        return self._sent(batch, document_pieces(_tokenizer(self.tokenizer), _records(batch)))

    def completions(self, batch: Batch) -> list[Encoded]:
        """Each document is cut by random numbers of its own, so that it does not matter what stands beside it."""
        tokenizer, context = _tokenizer(self.tokenizer), self.spec.context
        found = []
        for item, record in zip(batch.items, _records(batch), strict=True):
            pieces = completion_pieces(tokenizer, [record], context, Random(f"{self.spec.seed}/fim/{record.id}"))
            found += self._sent(batch._replace(items=[item]), pieces)
        return found

    def dialogues(self, batch: Batch) -> list[Encoded]:
        tokenizer, spec = _tokenizer(self.tokenizer), self.spec
        if batch.kind is Kind.CONVERSATION:
            return self._sent(batch, conversation_pieces(tokenizer, _records(batch), spec.context))
        problems = [Problem.model_validate_json(line) for line in batch.lines]
        rng = Random(f"{spec.seed}/chats/{problems[0].id}")
        conversations = list(chats(problems, spec.worked_share, rng, spec.worked_share_by_level))
        return self._sent(batch, problem_pieces(tokenizer, conversations, spec.context))

    @staticmethod
    def _sent(batch: Batch, pieces: Iterable[Piece]) -> list[Encoded]:
        return [
            Encoded(
                piece.tokens(), piece.domain, tuple(part._replace(item=batch.items[part.item]) for part in piece.parts)
            )
            for piece in pieces
        ]


Encode = Callable[[Batch], list[Encoded]]


class Workers:
    """Processes that encode; with one, it is this one. A context manager."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        if self._processes > 1:
            self._pool = ProcessPoolExecutor(self._processes, get_context("spawn"), _begin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, encode: Encode, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Encoded]]]:
        """Each batch and its pieces, in order. A few batches are taken ahead."""
        if self._pool is None:
            for batch in batches:
                yield batch, encode(batch)
            return
        waiting: deque[tuple[Batch, Future[list[Encoded]]]] = deque()
        iterator = iter(batches)
        while True:
            for batch in islice(iterator, self._processes * _AHEAD - len(waiting)):
                waiting.append((batch, self._pool.submit(encode, batch)))
            if not waiting:
                return
            batch, done = waiting.popleft()
            yield batch, done.result()


def batches(corpus: Corpus, items: Iterable[int]) -> Iterator[Batch]:
    """Items in order, those of a kind together, at most so many and so much text at once."""
    open_batches: dict[Kind, Batch] = {}
    characters = dict.fromkeys(Kind, 0)
    for item in items:
        kind = Kind(corpus.kinds_N[item])
        batch = open_batches.setdefault(kind, Batch(kind, [], []))
        batch.items.append(item)
        batch.lines.append(corpus.line(item))
        characters[kind] += int(corpus.characters_N[item])
        if characters[kind] >= _BATCH_CHARACTERS or len(batch.items) >= _BATCH_ITEMS:
            characters[kind] = 0
            yield open_batches.pop(kind)
    yield from open_batches.values()


def _begin() -> None:
    """A process of the pool: one core, and no longer there than the one that started it."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@cache
def _tokenizer(folder: Path) -> Tokenizer:
    """Opened once a process."""
    return Tokenizer.load(folder)


def _records(batch: Batch) -> Sequence[Record]:
    return [Record.model_validate_json(line) for line in batch.lines]

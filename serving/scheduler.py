"""Which tokens run in the next step: in-flight batching, chunked prefill, prefix reuse, preemption by recomputing. No
tensors."""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from serving.kv_cache import BlockPool, Key, block_key


@dataclass(eq=False)
class Sequence:
    """A request as the scheduler sees it: tokens, and how many of them have their keys and values in the cache.

    Attributes:
        priority: lower ones go first; among equals those that came first.
        reuse: whether it may begin with blocks of others; not where every token of the prompt must be run.
        keys: of its full blocks, as far as they are known.
    """

    id: str
    tokens: list[int]  # the prompt, then what was generated
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    priority: int = 0
    reuse: bool = True
    number: int = 0  # in the order of arrival
    keys: list[Key] = field(default_factory=list)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def rank(self) -> tuple[int, int]:
        return self.priority, self.number


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence from `start` on, to be run in one step."""

    sequence: Sequence
    start: int
    count: int

    @property
    def samples(self) -> bool:
        """Whether the step reaches the end of the sequence, so that its next token is known."""
        return self.start + self.count == len(self.sequence.tokens)


class Scheduler:
    """Sequences in order of rank; the first always advances, so every sequence ends, but for those that others of
    better priority keep away.

    A step runs one token of each decoding sequence and fills what is left of `max_batch_tokens` with prefill. When
    blocks run out the last in rank gives up its own and starts again later from its tokens.
    """

    def __init__(self, pool: BlockPool, max_batch_tokens: int, max_sequences: int) -> None:
        assert max_batch_tokens > max_sequences, "decoding must leave room for prefill"
        self.pool, self.max_batch_tokens, self.max_sequences = pool, max_batch_tokens, max_sequences
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = self.reused_tokens = 0
        self._arrivals = 0

    def add(self, sequence: Sequence) -> None:
        self._arrivals += 1
        sequence.number = self._arrivals
        self._queue(sequence)

    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def schedule(self) -> list[Chunk]:
        """The next batch; advances `computed`, so its chunks must be run and `commit`ted, or their sequences
        removed."""
        self._yield_to_better()
        prefill_budget = self.max_batch_tokens - sum(sequence.pending == 1 for sequence in self.running)
        chunks = []
        for sequence in list(self.running):
            count = min(sequence.pending, prefill_budget) if sequence.pending > 1 else 1
            # A sequence may have been preempted by a better one in this very loop.
            if count == 0 or sequence not in self.running or not self._make_room(sequence, count):
                continue
            prefill_budget -= count if sequence.pending > 1 else 0
            chunks.append(_advance(sequence, count))
        while prefill_budget > 0 and self._may_admit():
            sequence = self.waiting.pop(0)
            insort(self.running, sequence, key=_rank)
            self._reuse(sequence)
            count = min(sequence.pending, prefill_budget)
            grown = self.pool.grow(sequence.blocks, sequence.computed + count)
            assert grown, "a pool holds at least one whole context"
            prefill_budget -= count
            chunks.append(_advance(sequence, count))
        return chunks

    def commit(self, chunks: Iterable[Chunk]) -> None:
        """The batch has run: blocks that are full now may be found by others."""
        size = self.pool.block_size
        for chunk in chunks:
            sequence = chunk.sequence
            for index in range(chunk.start // size, (chunk.start + chunk.count) // size):
                self.pool.publish(sequence.blocks[index], self._key(sequence, index))

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that ended, failed or was cancelled, and take back its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self.pool.release(sequence.blocks)

    def _queue(self, sequence: Sequence) -> None:
        insort(self.waiting, sequence, key=_rank)

    def _key(self, sequence: Sequence, index: int) -> Key:
        size = self.pool.block_size
        while len(sequence.keys) <= index:
            at = len(sequence.keys)
            before = sequence.keys[-1] if sequence.keys else b""
            sequence.keys.append(block_key(before, sequence.tokens[at * size : (at + 1) * size]))
        return sequence.keys[index]

    def _reuse(self, sequence: Sequence) -> None:
        """Begin with blocks that hold its first tokens already; its last token is always run, for what follows it."""
        if sequence.reuse:
            whole = (len(sequence.tokens) - 1) // self.pool.block_size
            sequence.blocks = self.pool.find([self._key(sequence, index) for index in range(whole)])
            sequence.computed = len(sequence.blocks) * self.pool.block_size
            self.reused_tokens += sequence.computed

    def _yield_to_better(self) -> None:
        """Where the next in line is of better priority than the last that runs, that one makes way."""
        while self.waiting and self.running and self.waiting[0].priority < self.running[-1].priority:
            if self._may_admit():
                return
            self._preempt(self.running[-1])

    def _may_admit(self) -> bool:
        """Room for all tokens of the next in line and one more: admitting it for its first chunk only would soon
        preempt it again."""
        if not self.waiting or len(self.running) == self.max_sequences:
            return False
        return self.pool.blocks_for(len(self.waiting[0].tokens) + 1) <= self.pool.free or not self.running

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        """Blocks for `count` more tokens, if need be from those behind it; False when it had to give up its own."""
        while not self.pool.grow(sequence.blocks, sequence.computed + count):
            last = self.running[-1]
            self._preempt(last)
            if last is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(sequence)
        self.pool.release(sequence.blocks)
        sequence.computed = 0
        self._queue(sequence)


def _rank(sequence: Sequence) -> tuple[int, int]:
    return sequence.rank


def _advance(sequence: Sequence, count: int) -> Chunk:
    chunk = Chunk(sequence, sequence.computed, count)
    sequence.computed += count
    return chunk

"""Which tokens run in the next step: in-flight batching, chunked prefill, preemption by recomputing. No tensors."""

from collections import deque
from dataclasses import dataclass, field

from serving.kv_cache import BlockPool


@dataclass(eq=False)
class Sequence:
    """A request as the scheduler sees it: tokens, and how many of them have their keys and values in the cache."""

    id: str
    tokens: list[int]  # the prompt, then what was generated
    blocks: list[int] = field(default_factory=list)
    computed: int = 0

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed


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
    """Sequences in order of admission; the oldest always advances, so every sequence ends.

    A step runs one token of each decoding sequence and fills what is left of `max_batch_tokens` with prefill. When
    blocks run out the newest sequence gives up its own and starts again later from its tokens.
    """

    def __init__(self, pool: BlockPool, max_batch_tokens: int, max_sequences: int) -> None:
        assert max_batch_tokens > max_sequences, "decoding must leave room for prefill"
        self.pool, self.max_batch_tokens, self.max_sequences = pool, max_batch_tokens, max_sequences
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def schedule(self) -> list[Chunk]:
        """The next batch; advances `computed`, so its chunks must be run, or their sequences removed."""
        prefill_budget = self.max_batch_tokens - sum(sequence.pending == 1 for sequence in self.running)
        chunks = []
        for sequence in list(self.running):
            count = min(sequence.pending, prefill_budget) if sequence.pending > 1 else 1
            # A sequence may have been preempted by an older one in this very loop.
            if count == 0 or sequence not in self.running or not self._make_room(sequence, count):
                continue
            prefill_budget -= count if sequence.pending > 1 else 0
            chunks.append(_advance(sequence, count))
        while prefill_budget > 0 and self._may_admit():
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            count = min(sequence.pending, prefill_budget)
            grown = self.pool.grow(sequence.blocks, count)
            assert grown, "a pool holds at least one whole context"
            prefill_budget -= count
            chunks.append(_advance(sequence, count))
        return chunks

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that ended, failed or was cancelled, and take back its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self.pool.release(sequence.blocks)

    def _may_admit(self) -> bool:
        """Room for all tokens of the next in line and one more: admitting it for its first chunk only would soon
        preempt it again."""
        if not self.waiting or len(self.running) == self.max_sequences:
            return False
        return self.pool.blocks_for(len(self.waiting[0].tokens) + 1) <= self.pool.free or not self.running

    def _make_room(self, sequence: Sequence, count: int) -> bool:
        """Blocks for `count` more tokens, if need be from newer sequences; False when it had to give up its own."""
        while not self.pool.grow(sequence.blocks, sequence.computed + count):
            newest = self.running[-1]
            self._preempt(newest)
            if newest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(sequence)
        self.pool.release(sequence.blocks)
        sequence.computed = 0
        self.waiting.appendleft(sequence)


def _advance(sequence: Sequence, count: int) -> Chunk:
    chunk = Chunk(sequence, sequence.computed, count)
    sequence.computed += count
    return chunk

"""TorchEngine: step = schedule -> run -> postprocess, in a thread of its own."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
from llguidance import LLMatcher
from torch import Tensor

from serving.engine_protocol import Emit, EngineClosed, Stats
from serving.grammars import Grammars
from serving.histogram import StepHistograms
from serving.kv_cache import BlockPool
from serving.live import Live, advance
from serving.prompt_reader import reader_for
from serving.request import Failure, Request, is_last
from serving.runner import Runner
from serving.sampling import new_sampler
from serving.scheduler import Chunk, Scheduler, Sequence
from serving.text_stream import TextStream
from trainer.data.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Sizes of an engine: tokens a step, sequences at once, blocks and the tokens a block holds."""

    max_batch_tokens: int
    max_sequences: int
    num_blocks: int
    block_size: int


@dataclass(frozen=True)
class _Submit:
    request: Request
    emit: Emit
    matcher: LLMatcher | None
    arrival: float


@dataclass(frozen=True)
class _Cancel:
    request_id: str


class _Wake:
    """Look at the flags again."""


class TorchEngine:
    """Continuous batching over `trainer.model`; no request waits for another to end.

    Args:
        after_step: called in the engine's thread when all events of a step are emitted.
    """

    def __init__(
        self, runner: Runner, tokenizer: Tokenizer, limits: Limits, after_step: Callable[[], None] = lambda: None
    ) -> None:
        self.runner, self.tokenizer, self._after_step = runner, tokenizer, after_step
        pool = BlockPool(limits.num_blocks, limits.block_size)
        self.scheduler = Scheduler(pool, limits.max_batch_tokens, limits.max_sequences)
        self.grammars, self._observed = Grammars.of(tokenizer), StepHistograms()
        self._live: dict[str, Live] = {}
        self._inbox: queue.SimpleQueue[_Submit | _Cancel | _Wake] = queue.SimpleQueue()
        self._lock = threading.Lock()  # orders submit before close
        self._closed = self._aborted = False
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    # -- from any thread -------------------------------------------------------------------------------------------

    def submit(self, request: Request, emit: Emit) -> None:
        # Compiled in the thread of the one who asks: no step waits for it.
        grammar = request.params.grammar
        matcher = self.grammars.matcher(grammar) if grammar is not None else None
        with self._lock:
            if self._closed:
                raise EngineClosed
            self._inbox.put(_Submit(request, emit, matcher, time.monotonic()))

    def cancel(self, request_id: str) -> None:
        self._inbox.put(_Cancel(request_id))

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._inbox.put(_Wake())

    def join(self) -> None:
        self._thread.join()

    def abort(self) -> None:
        with self._lock:
            self._closed = self._aborted = True
        self._inbox.put(_Wake())
        self.join()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stats(self) -> Stats:
        pool, scheduler = self.scheduler.pool, self.scheduler
        waiting = len(scheduler.waiting) + self._inbox.qsize()
        return Stats(
            len(scheduler.running), waiting, pool.used, pool.num_blocks, scheduler.preemptions, self._observed.counts()
        )

    # -- the engine's thread ---------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while not self._aborted:
                self._read_inbox()
                self._end_late()
                if self.scheduler.has_work():
                    self.step()
                    self._after_step()
                elif self._closed and self._inbox.empty():
                    return
        finally:
            # Also when a defect ends this thread: nobody may wait for an answer that cannot come.
            with self._lock:
                self._closed = True
            self._read_inbox()
            self._fail(list(self._live.values()), "the engine has stopped; try again")
            self._after_step()

    def _read_inbox(self) -> None:
        """Take in what has arrived; with nothing to do, wait for it."""
        wait = not self.scheduler.has_work() and not self._closed
        while wait or not self._inbox.empty():
            wait = False
            match self._inbox.get():
                case _Submit() as submitted:
                    self._start(submitted)
                case _Cancel(request_id) if request_id in self._live:
                    self._end(self._live[request_id])

    def step(self) -> None:
        """One batch. What goes wrong in it ends its requests with an error, not the engine."""
        chunks = self.scheduler.schedule()
        self._observe(chunks)
        try:
            sampling, logits_NV = self.runner.run(chunks, self._read_prompt)
            self.scheduler.commit(chunks)
            self.postprocess(sampling, logits_NV)
        except Exception:
            # The supervision point of the engine: any defect must reach the clients that wait for this batch.
            logger.exception("a batch of %d requests failed", len(chunks))
            live = [self._live[chunk.sequence.id] for chunk in chunks if chunk.sequence.id in self._live]
            self._fail(live, "the engine failed on this request; the server's log says why")

    def _observe(self, chunks: Items[Chunk]) -> None:
        observed, pool, now = self._observed, self.scheduler.pool, time.monotonic()
        observed.batch_size.observe(len(chunks))
        observed.kv_use.observe(pool.used / pool.num_blocks)
        for live in (self._live[chunk.sequence.id] for chunk in chunks):
            if live.arrival is not None:
                observed.queue_seconds.observe(now - live.arrival)
                live.arrival = None

    def _read_prompt(self, chunk: Chunk, hidden_LD: Tensor) -> None:
        live = self._live[chunk.sequence.id]
        if live.reader is not None and chunk.start < len(live.request.prompt):
            live.reader.read(chunk.start, hidden_LD)

    @torch.inference_mode()
    def postprocess(self, sampling: Items[Chunk], logits_NV: Tensor) -> None:
        """Sample, append, show, and end what is finished."""
        lives = [self._live[chunk.sequence.id] for chunk in sampling]
        events = advance(lives, logits_NV[:, : self.tokenizer.vocab_size], self.tokenizer.end_id)
        for live, event in zip(lives, events, strict=True):
            if is_last(event):
                self._end(live)
            live.emit(event)

    def _start(self, submitted: _Submit) -> None:
        request = submitted.request
        sequence = Sequence(request.id, list(request.prompt), priority=request.priority, reuse=not request.reads_prompt)
        self._live[request.id] = Live(
            request=request,
            emit=submitted.emit,
            sequence=sequence,
            text=TextStream(self.tokenizer.decode_stream(), request.params.stop),
            sampler=new_sampler(
                request.params, request.prompt, self.tokenizer.vocab_size, self.runner.device, submitted.matcher
            ),
            reader=reader_for(request, self._scores),
            arrival=submitted.arrival,
        )
        self.scheduler.add(sequence)

    def _scores(self, hidden_LD: Tensor) -> Tensor:
        return self.runner.model.logits(hidden_LD)[:, : self.tokenizer.vocab_size]

    def _end(self, live: Live) -> None:
        del self._live[live.request.id]
        self.scheduler.remove(live.sequence)

    def _end_late(self) -> None:
        now = time.monotonic()
        late = [live for live in self._live.values() if (live.request.deadline or now) < now]
        self._fail(late, "the answer was not whole at its deadline", late=True)

    def _fail(self, failed: Items[Live], message: str, *, late: bool = False) -> None:
        for live in failed:
            self._end(live)
            live.emit(Failure(message, late))

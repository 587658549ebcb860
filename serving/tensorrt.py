"""TensorRT-LLM behind the `Engine` protocol; the only importer of `tensorrt_llm`.

Its `LLM` batches in flight by itself. It gets and gives token ids: the tokenizer is ours, so text, stop strings and
chats are what they are with the torch engine.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
import yaml
from torch import Tensor

from serving.agreement import Logits, check_agreement
from serving.engine_protocol import Emit, EngineClosed, Stats
from serving.export.hugging_face import QUANTISED, TRTLLM_FILE, read_dtype, read_max_kl
from serving.gate import Gate, Parity
from serving.parity import read_record
from serving.request import Delta, Failure, FinishReason, Request, SamplingParams, TokenLogprob
from serving.text_stream import TextStream
from trainer.data.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def load_tensorrt(
    export: Path, tokenizer: Tokenizer, after_step: Callable[[], None] = lambda: None
) -> tuple["TensorrtEngine", int, Gate]:
    """Load an export as its trtllm.yaml says, the quantised one where there is one, and prove it.

    Returns:
        The engine, still to be run, how many tokens prompt and answer may have together, and what the gate found.

    Raises:
        ValueError: TensorRT-LLM is not there, or what it computes is too far from what was trained.
    """
    if find_spec("tensorrt_llm") is None:
        raise ValueError(
            "OCTAVO_SERVING_ENGINE is 'tensorrt', but tensorrt_llm is not installed; use NVIDIA's image "
            "tensorrt-llm/release on a machine with an NVIDIA GPU, or set it to 'torch'"
        )
    from tensorrt_llm import LLM

    folder = export / QUANTISED if (export / QUANTISED).is_dir() else export
    options: dict[str, Any] = yaml.safe_load((folder / TRTLLM_FILE).read_text())
    llm = LLM(model=str(folder), skip_tokenizer_init=True, **options)
    context = int(options["max_seq_len"])
    record = read_record(export)
    record["lengths"] = record["lengths"].clamp(max=context - 1)  # one token must be generated
    try:
        found = check_agreement(context_logits(llm, tokenizer), record, read_max_kl(export))
    except ValueError:
        llm.shutdown()
        raise
    parity = Parity(found.difference, found.positions, 0, None, None, found.kl, found.top1)
    gate = Gate("fp8 or int8" if folder.name == QUANTISED else read_dtype(folder), None, parity)
    return TensorrtEngine(llm, tokenizer, int(options["max_batch_size"]), after_step), context, gate


def context_logits(llm: Any, tokenizer: Tokenizer) -> Logits:
    """A prompt's logits [L, V], as TensorRT-LLM computes them."""
    params = _their_params(SamplingParams(max_tokens=1, temperature=0.0), tokenizer, return_context_logits=True)

    def logits(tokens: list[int]) -> Tensor:
        found: Tensor = llm.generate(tokens, params, use_tqdm=False).context_logits
        return found.to(torch.float32)

    return logits


def _their_params(params: SamplingParams, tokenizer: Tokenizer, **more: Any) -> Any:
    """Ours as TensorRT-LLM's. Stop strings stay here: it has no tokenizer that would find them."""
    from tensorrt_llm import SamplingParams as TheirParams

    if params.temperature == 0:
        sampling: dict[str, Any] = {"top_k": 1}
    else:
        sampling = {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k or None}
    return TheirParams(
        max_tokens=params.max_tokens,
        **sampling,
        seed=params.seed,
        end_id=tokenizer.end_id,
        pad_id=tokenizer.pad_id,
        ignore_eos=params.ignore_end,
        # It reports the chosen token beside the best ones, but nothing at all for 0 of them.
        logprobs=None if params.logprobs is None else max(1, params.logprobs),
        detokenize=False,
        **more,
    )


class TensorrtEngine:
    """Requests as tasks of an event loop, in whose thread alone events are emitted. Somebody must `run` it.

    Requests go to TensorRT-LLM as they come: it keeps the queue, so `priority` has no effect here. It does not say how
    many of its KV blocks are in use; `stats` shows none.

    Args:
        llm: a `tensorrt_llm.LLM`; shut down when the engine ends.
        max_requests: how many it answers at once; the others wait.
        after_step: called in the engine's thread when the events of a step are emitted.
    """

    def __init__(
        self, llm: Any, tokenizer: Tokenizer, max_requests: int, after_step: Callable[[], None] = lambda: None
    ) -> None:
        self._llm, self._tokenizer = llm, tokenizer
        self._max_requests, self._after_step = max_requests, after_step
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = threading.Lock()  # for the flags, and the order of what is asked of the loop
        self._closed = self._aborted = False
        self._loop = asyncio.new_event_loop()
        self._done = asyncio.Event()
        self._ended = threading.Event()

    def start(self) -> Self:
        """Run in a thread of its own."""
        threading.Thread(target=self.run, name="engine", daemon=True).start()
        return self

    # -- from any thread -------------------------------------------------------------------------------------------

    def submit(self, request: Request, emit: Emit) -> None:
        with self._lock:
            if self._closed:
                raise EngineClosed
            self._ask(self._start, request, emit)

    def cancel(self, request_id: str) -> None:
        with self._lock:
            self._ask(self._cancel, request_id)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._ask(self._end_if_idle)

    def join(self) -> None:
        self._ended.wait()

    def abort(self) -> None:
        with self._lock:
            self._closed = self._aborted = True
            self._ask(self._cancel_all)
        self.join()

    def is_alive(self) -> bool:
        return not self._ended.is_set()

    def stats(self) -> Stats:
        live = len(self._tasks)
        running = min(live, self._max_requests)
        return Stats(running=running, waiting=live - running, used_blocks=0, num_blocks=0, preemptions=0)

    def _ask(self, action: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action, *arguments)

    # -- the engine's thread ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Answer requests until the engine is closed and all are answered, or it is aborted."""
        try:
            self._loop.run_until_complete(self._done.wait())
        finally:
            with self._lock:
                self._closed = True
                self._loop.close()
            self._llm.shutdown()
            self._ended.set()

    def _start(self, request: Request, emit: Emit) -> None:
        task = self._loop.create_task(self._supervise(request, emit))
        self._tasks[request.id] = task
        task.add_done_callback(lambda task: self._forget(request.id, task, emit))

    def _forget(self, request_id: str, task: asyncio.Task[None], emit: Emit) -> None:
        """A client that cancels hears nothing more; an engine that is aborted tells those who wait."""
        del self._tasks[request_id]
        if task.cancelled() and self._aborted:
            self._fail(emit, Failure("the engine has stopped; try again"))
        self._end_if_idle()

    def _fail(self, emit: Emit, failure: Failure) -> None:
        emit(failure)
        self._after_step()

    def _cancel(self, request_id: str) -> None:
        if request_id in self._tasks:
            self._tasks[request_id].cancel()

    def _cancel_all(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._closed and not self._tasks:
            self._done.set()

    async def _supervise(self, request: Request, emit: Emit) -> None:
        """One answer to its last event, whatever happens but cancellation."""
        try:
            left = None if request.deadline is None else request.deadline - time.monotonic()
            async with asyncio.timeout(left):
                await self._answer(request, emit)
        except TimeoutError:
            self._fail(emit, Failure("the answer was not whole at its deadline", late=True))
        except Exception:
            # The supervision point of the engine: any defect must reach the client that waits for it.
            logger.exception("request %s failed", request.id)
            self._fail(emit, Failure("the engine failed on this request; the server's log says why"))

    async def _answer(self, request: Request, emit: Emit) -> None:
        params = _their_params(request.params, self._tokenizer)
        answer = _Answer(request.params, self._tokenizer)
        # Within the running loop, or its result could not be awaited.
        output = self._llm.generate_async(list(request.prompt), sampling_params=params, streaming=True)
        try:
            async for step in output:
                for delta in answer.deltas(step.outputs[0]):
                    emit(delta)
                self._after_step()
                if answer.ended:
                    return
        finally:
            if not output.finished:
                output.abort()
        raise RuntimeError(f"TensorRT-LLM ended an answer with '{output.outputs[0].finish_reason}'")


class _Answer:
    """What TensorRT-LLM has generated so far, as deltas: its outputs grow, and each token is shown once."""

    def __init__(self, params: SamplingParams, tokenizer: Tokenizer) -> None:
        self.ended = False
        self._params, self._end_id, self._shown = params, tokenizer.end_id, 0
        self._text = TextStream(tokenizer.decode_stream(), params.stop)

    def deltas(self, output: Any) -> Iterator[Delta]:
        """Of the tokens that are new in a `CompletionOutput`."""
        reason = output.finish_reason if output.finish_reason in ("stop", "length") else None
        tokens = output.token_ids[self._shown :]
        for number, token in enumerate(tokens, start=1):
            logprobs = self._logprobs(output, token)
            self._shown += 1
            yield self._delta(token, logprobs, reason if number == len(tokens) else None)
            if self.ended:
                return
        if reason is not None:  # it ended without a token more
            self.ended = True
            yield Delta(self._text.flush(), (), reason)

    def _delta(self, token: int, logprobs: tuple[TokenLogprob, ...], reason: FinishReason | None) -> Delta:
        if token == self._end_id and not self._params.ignore_end:
            reason, text = "stop", ""
        else:
            text = self._text.push(token)
        if reason is not None and not self._text.stopped:
            text += self._text.flush()
        if self._text.stopped:
            reason = "stop"
        self.ended = reason is not None
        return Delta(text, (token,), reason, logprobs)

    def _logprobs(self, output: Any, token: int) -> tuple[TokenLogprob, ...]:
        count = self._params.logprobs
        if count is None:
            return ()
        found = {other: entry.logprob for other, entry in output.logprobs[self._shown].items()}
        best = sorted(found.items(), key=lambda item: -item[1])[:count]
        return (TokenLogprob(token, found[token], tuple(best)),)

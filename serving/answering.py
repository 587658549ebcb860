"""One HTTP request from its body to the last event of the engine, with what must be counted on the way."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from serving.deployments import Deployments
from serving.engine_protocol import Emit, EngineClosed, Served
from serving.errors import ApiError, too_many
from serving.grammars import Grammars
from serving.keys import Key, RateLimiter
from serving.logs import ChatLog, Kept, UsageLog
from serving.metrics import Metrics
from serving.prepare import Asked, check_grammar, grammar_of, prepare, prepare_embeddings
from serving.protocol import ChatCompletionRequest, CompletionRequest, EmbeddingRequest, Usage
from serving.request import Delta, Embedding, Event, Failure, is_last
from serving.settings import Settings

# A deployment may be switched between looking it up and submitting; twice in a row is not plausible.
SUBMIT_ATTEMPTS = 3


@dataclass(frozen=True)
class Serving:
    """What the routes share."""

    settings: Settings
    deployments: Deployments
    metrics: Metrics
    usage_log: UsageLog
    chat_log: ChatLog
    limiter: RateLimiter = field(default_factory=RateLimiter)
    grammars: Grammars = field(default_factory=Grammars.of_bytes)

    def find(self, model: str, sticky: str = "") -> Served:
        """What answers under a name, or the version that is pinned as 'name@version'; see `Deployments.route`.

        Raises:
            ApiError: 404 that lists the models, or 503 while the one asked for is still loading.
        """
        if (found := self.deployments.route(model, sticky)) is not None:
            return found
        ready = self.deployments.ready()
        for state in self.deployments.states():
            if model in (state.model_name, f"{state.model_name}@{state.version}"):
                reason = state.error or "it is still loading; try again in a moment"
                raise ApiError(503, f"model '{model}' does not answer: {reason}", kind="server_error", param="model")
        known = ", ".join(sorted(ready)) or "none yet"
        message = f"there is no model '{model}'; deployed: {known}"
        raise ApiError(404, message, param="model", code="model_not_found")

    def find_only(self, model: str | None) -> Served:
        """`find`, where the name may be left out as long as there is one model only."""
        names = [model] if model is not None else sorted(self.deployments.ready())
        if len(names) != 1:
            known = ", ".join(names) or "none yet"
            raise ApiError(400, f"say which model; deployed: {known}", param="model")
        return self.find(names[0])

    async def start(self, body: CompletionRequest | ChatCompletionRequest, key: Key) -> "Answer":
        """Hand a request to the engine of its model.

        Raises:
            ApiError: it cannot be answered; says why.
        """
        if (guided := grammar_of(body)) is not None:  # compiling may take a moment: others are served meanwhile
            await asyncio.to_thread(check_grammar, self.grammars, *guided)
        return self._submit(body, key, lambda served: prepare(served, body))

    async def start_embedding(self, body: EmbeddingRequest, key: Key) -> "Answer":
        """Raises:
        ApiError: it cannot be answered; says why.
        """
        return self._submit(body, key, lambda served: prepare_embeddings(served, body))

    def _submit(self, body: "Question", key: Key, ask: Callable[[Served], Asked]) -> "Answer":
        for _ in range(SUBMIT_ATTEMPTS):
            served = self.find(body.model, f"{key.id}\n{opening(body)}")
            asked = ask(served)
            self._check_queue(served, len(asked.requests))
            answer = Answer(self, served, body, key, asked)
            try:
                answer.submit()
            except EngineClosed:
                continue
            return answer
        raise ApiError(503, f"the engine of model '{body.model}' has stopped; try again", kind="server_error")

    def _check_queue(self, served: Served, count: int) -> None:
        most = self.settings.serving_max_queue
        if count > most:
            raise ApiError(400, f"this asks for {count} answers at once; at most {most} may wait", param="n")
        if served.engine.stats().waiting + count > most:
            raise too_many(f"{most} requests are waiting already; try again later", "queue_full", 1)


Question = CompletionRequest | ChatCompletionRequest | EmbeddingRequest


def opening(body: Question) -> str:
    """What later turns of the same conversation begin with too: all up to the first question. Else the whole input."""
    if isinstance(body, CompletionRequest):
        return str(body.prompt)
    if isinstance(body, EmbeddingRequest):
        return str(body.input)
    asked = next((at for at, message in enumerate(body.messages) if message.role == "user"), len(body.messages))
    return "\n".join(message.content for message in body.messages[: asked + 1])


class Answer:
    """The events of one HTTP request, by choice; however it ends, it is counted and the engine lets go of it."""

    def __init__(self, serving: Serving, served: Served, body: Question, key: Key, asked: Asked) -> None:
        self.served, self.asked = served, asked
        self._serving, self._body, self._key = serving, body, key
        self._model = body.model.partition("@")[0]
        self._labels = (self._model, served.version)
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self._open = set(range(len(asked.requests)))
        self._texts: list[list[str]] = [[] for _ in asked.requests]
        self._reasons: dict[int, str] = {}
        self._completion_tokens = 0
        self._arrival = time.perf_counter()
        self._last: dict[int, float] = {}  # when each choice had its newest token

    @property
    def usage(self) -> Usage:
        return Usage.of(self.asked.prompt_tokens, self._completion_tokens)

    def submit(self) -> None:
        """Raises EngineClosed."""
        try:
            for index, request in enumerate(self.asked.requests):
                self.served.engine.submit(request, self._emitter(index))
        except EngineClosed:
            self._cancel()
            raise
        self._serving.limiter.charge(self._key, self.asked.prompt_tokens)

    async def events(self) -> AsyncGenerator[tuple[int, Delta | Embedding], None]:
        """Until every choice has its last. Closing it early, as a disconnect does, frees what the engine holds for it.

        Raises:
            ApiError: 500, the engine failed on this request; 504, it was not done at its deadline.
        """
        outcome = "cancelled"
        try:
            while self._open:
                index, event = await self._events.get()
                if isinstance(event, Failure):
                    outcome = "error"
                    status, code = (504, "deadline_exceeded") if event.late else (500, "engine_error")
                    raise ApiError(status, event.message, kind="server_error", code=code)
                self._take(index, event)
                yield index, event
        finally:
            self._cancel()
            self._finish(outcome)

    def _emitter(self, index: int) -> Emit:
        loop = asyncio.get_running_loop()

        def emit(event: Event) -> None:
            loop.call_soon_threadsafe(self._put, index, event)

        return emit

    def _put(self, index: int, event: Event) -> None:
        """What waits for a client that does not read lies in memory: beyond a limit it is given up."""
        most = self._serving.settings.serving_max_unread * len(self.asked.requests)
        if self._events.qsize() < most:
            self._events.put_nowait((index, event))
            return
        while not self._events.empty():
            self._events.get_nowait()
        self._cancel()
        self._events.put_nowait((index, Failure("the client reads too slowly; this answer was given up")))

    def _cancel(self) -> None:
        for index in self._open:
            self.served.engine.cancel(self.asked.requests[index].id)

    # -- counting --------------------------------------------------------------------------------------------------

    def _take(self, index: int, event: Delta | Embedding) -> None:
        if isinstance(event, Delta):
            self._count_tokens(index, event)
        if is_last(event):
            self._open.remove(index)
            self._reasons[index] = (isinstance(event, Delta) and event.finish_reason) or "embedding"
            self._serving.metrics.requests.labels(*self._labels, self._reasons[index]).inc()

    def _count_tokens(self, index: int, delta: Delta) -> None:
        metrics, now = self._serving.metrics, time.perf_counter()
        if index in self._last:
            metrics.inter_token.labels(*self._labels).observe(now - self._last[index])
        else:
            metrics.first_token.labels(*self._labels).observe(now - self._arrival)
        self._last[index] = now
        self._completion_tokens += len(delta.tokens)
        self._serving.limiter.charge(self._key, len(delta.tokens))
        if self._key.keep_chats:
            self._texts[index].append(delta.text)

    def _finish(self, outcome: str) -> None:
        """`outcome`: of the choices that did not come to their end."""
        metrics, usage = self._serving.metrics, self.usage
        if self._open:
            metrics.requests.labels(*self._labels, outcome).inc(len(self._open))
        metrics.prompt_tokens.labels(*self._labels).inc(usage.prompt_tokens)
        metrics.completion_tokens.labels(*self._labels).inc(usage.completion_tokens)
        self._serving.usage_log.append(self._key.id, self._model, usage)
        if self._key.keep_chats and not self._open and (question := self._question()) is not None:
            kept = [Kept("".join(parts), self._reasons[index]) for index, parts in enumerate(self._texts)]
            self._serving.chat_log.append(self._key.id, self._model, question, kept)

    def _question(self) -> dict[str, Any] | None:
        """The part of the body that is kept; nothing of embeddings."""
        match self._body:
            case ChatCompletionRequest():
                return {"messages": [message.as_message().model_dump() for message in self._body.messages]}
            case CompletionRequest():
                return {"prompts": [self.served.tokenizer.decode(prompt) for prompt in self.asked.prompts]}
        return None

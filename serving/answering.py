"""One request from its body to the last event of the engine, with what must be counted on the way."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from serving.deployments import Deployments
from serving.engine_protocol import EngineClosed, Served
from serving.metrics import Metrics
from serving.protocol import ApiError, ChatCompletionRequest, CompletionRequest, Usage
from serving.request import Delta, Event, Failure, Request, SamplingParams
from serving.settings import Settings

# A deployment may be switched between looking it up and submitting; twice in a row is not plausible.
SUBMIT_ATTEMPTS = 3


@dataclass(frozen=True)
class UsageLog:
    """usage.jsonl: one line a request, appended in one write, so that lines of several replicas never mix."""

    path: Path

    def append(self, key: str, model: str, usage: Usage) -> None:
        line = json.dumps(
            {
                "time": time.time(),
                "key": key,
                "model": model,
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            }
        )
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class Serving:
    """What the routes share."""

    settings: Settings
    deployments: Deployments
    metrics: Metrics
    usage_log: UsageLog

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

    def start(self, body: CompletionRequest | ChatCompletionRequest, key: str) -> "Answer":
        """Hand a request to the engine of its model.

        Raises:
            ApiError: it cannot be answered; says why.
        """
        for _ in range(SUBMIT_ATTEMPTS):
            served = self.find(body.model, f"{key}\n{opening(body)}")
            if served.engine.stats().waiting >= self.settings.serving_max_queue:
                message = f"{self.settings.serving_max_queue} requests are waiting already; try again later"
                raise ApiError(429, message, kind="rate_limit_error", code="queue_full")
            answer = Answer(self, served, body.model, key, prepare(served, body))
            try:
                answer.submit()
            except EngineClosed:
                continue
            return answer
        raise ApiError(503, f"the engine of model '{body.model}' has stopped; try again", kind="server_error")


def opening(body: CompletionRequest | ChatCompletionRequest) -> str:
    """What later turns of the same conversation begin with too: all up to the first question. Of a completion, the
    whole prompt."""
    if isinstance(body, CompletionRequest):
        return str(body.prompt)
    asked = next((at for at, message in enumerate(body.messages) if message.role == "user"), len(body.messages))
    return "\n".join(message.content for message in body.messages[: asked + 1])


def prepare(served: Served, body: CompletionRequest | ChatCompletionRequest) -> Request:
    """Tokens and parameters; an answer ends at the context at the latest, with finish_reason 'length'.

    Raises:
        ApiError: the prompt is empty, holds an unknown token id, or does not fit the context.
    """
    prompt, field = _prompt(served, body)
    if not prompt:
        raise ApiError(400, "the prompt is empty; give at least one token", param=field)
    room = served.context - len(prompt)
    if room < 1:
        message = (
            f"the prompt has {len(prompt)} tokens; the context of model '{body.model}' is {served.context} tokens, "
            "of which the answer needs at least one; shorten the prompt"
        )
        raise ApiError(400, message, param=field, code="context_length_exceeded")
    params = SamplingParams(
        max_tokens=min(room, _wanted_tokens(body) or room),
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        seed=body.seed,
        stop=body.stop,
        ignore_end=body.ignore_eos,
        logprobs=_wanted_logprobs(served, body),
    )
    return Request(uuid.uuid4().hex, prompt, params)


def _prompt(served: Served, body: CompletionRequest | ChatCompletionRequest) -> tuple[tuple[int, ...], str]:
    """The tokens, and the field they come from."""
    if isinstance(body, ChatCompletionRequest):
        messages = [message.as_message() for message in body.messages]
        return tuple(served.tokenizer.encode_chat(messages, add_generation_prompt=True)[0]), "messages"
    if isinstance(body.prompt, str):
        return tuple(served.tokenizer.encode(body.prompt)), "prompt"
    unknown = [token for token in body.prompt if not 0 <= token < served.vocab_size]
    if unknown:
        message = f"token id {unknown[0]} is not in the vocabulary of {served.vocab_size} tokens"
        raise ApiError(400, message, param="prompt")
    return body.prompt, "prompt"


def _wanted_tokens(body: CompletionRequest | ChatCompletionRequest) -> int | None:
    if isinstance(body, CompletionRequest):
        return body.max_tokens
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise ApiError(400, "give max_completion_tokens or max_tokens, not both", param="max_tokens")
    return body.max_completion_tokens or body.max_tokens


def _wanted_logprobs(served: Served, body: CompletionRequest | ChatCompletionRequest) -> int | None:
    if isinstance(body, CompletionRequest):
        return body.logprobs
    return min(body.top_logprobs or 0, served.vocab_size) if body.logprobs else None


class Answer:
    """The events of one request; however it ends, it is counted and the engine lets go of it."""

    def __init__(self, serving: Serving, served: Served, model: str, key: str, request: Request) -> None:
        self.served, self.request = served, request
        self._serving, self._model, self._key = serving, model.partition("@")[0], key
        self._labels = (self._model, served.version)
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._completion_tokens = 0
        self._arrival = self._last = time.perf_counter()

    @property
    def usage(self) -> Usage:
        return Usage.of(len(self.request.prompt), self._completion_tokens)

    def submit(self) -> None:
        """Raises EngineClosed."""
        loop = asyncio.get_running_loop()

        def emit(event: Event) -> None:
            loop.call_soon_threadsafe(self._events.put_nowait, event)

        self.served.engine.submit(self.request, emit)

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """Until the delta with a finish reason. Closing it early, as a disconnect does, frees the request's blocks.

        Raises:
            ApiError: 500, the engine failed on this request.
        """
        outcome = "cancelled"
        try:
            while True:
                event = await self._events.get()
                if isinstance(event, Failure):
                    outcome = "error"
                    raise ApiError(500, event.message, kind="server_error", code="engine_error")
                self._count(event)
                outcome = event.finish_reason or outcome
                yield event
                if event.finish_reason is not None:
                    return
        finally:
            if outcome == "cancelled":
                self.served.engine.cancel(self.request.id)
            self._finish(outcome)

    def _count(self, delta: Delta) -> None:
        metrics, now = self._serving.metrics, time.perf_counter()
        if self._completion_tokens == 0:
            metrics.first_token.labels(*self._labels).observe(now - self._arrival)
        else:
            metrics.inter_token.labels(*self._labels).observe(now - self._last)
        self._last = now
        self._completion_tokens += len(delta.tokens)

    def _finish(self, outcome: str) -> None:
        metrics, usage = self._serving.metrics, self.usage
        metrics.requests.labels(*self._labels, outcome).inc()
        metrics.prompt_tokens.labels(*self._labels).inc(usage.prompt_tokens)
        metrics.completion_tokens.labels(*self._labels).inc(usage.completion_tokens)
        self._serving.usage_log.append(self._key, self._model, usage)

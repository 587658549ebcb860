"""Answers in the two forms of the OpenAI protocol: text completions and chat completions, whole or as chunks."""

import time
import uuid
from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from serving.protocol import Usage
from serving.request import Delta, TokenLogprob
from trainer.data.tokenizer import Tokenizer

Json = dict[str, Any]


class Form(Protocol):
    """How one kind of endpoint puts an answer."""

    def whole(self, text: str, finish_reason: str, logprobs: Items[TokenLogprob], usage: Usage) -> Json: ...

    def opening(self) -> list[Json]:
        """Chunks before the first token."""

    def chunk(self, delta: Delta) -> Json: ...

    def usage_chunk(self, usage: Usage) -> Json: ...


@dataclass(frozen=True)
class _Base:
    prefix: ClassVar[str]
    kind: ClassVar[str]

    model: str
    tokenizer: Tokenizer
    with_logprobs: bool
    version: str  # of the deployment
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def envelope(self, choices: list[Json], kind: str | None = None, usage: Usage | None = None) -> Json:
        body: Json = {
            "id": f"{self.prefix}-{self.id}",
            "object": kind or self.kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.version,
            "choices": choices,
        }
        return body if usage is None else {**body, "usage": usage.model_dump()}

    def token_text(self, token: int) -> str:
        return self.tokenizer.token_text(token)


@dataclass(frozen=True)
class ChatForm(_Base):
    prefix = "chatcmpl"
    kind = "chat.completion"

    def whole(self, text: str, finish_reason: str, logprobs: Items[TokenLogprob], usage: Usage) -> Json:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": self._logprobs(logprobs)}
        return self.envelope([choice], usage=usage)

    def opening(self) -> list[Json]:
        return [self._piece({"role": "assistant", "content": ""}, None, ())]

    def chunk(self, delta: Delta) -> Json:
        return self._piece({"content": delta.text} if delta.text else {}, delta.finish_reason, delta.logprobs)

    def usage_chunk(self, usage: Usage) -> Json:
        return self.envelope([], "chat.completion.chunk", usage)

    def _piece(self, content: Json, finish_reason: str | None, logprobs: Items[TokenLogprob]) -> Json:
        choice = {"index": 0, "delta": content, "finish_reason": finish_reason, "logprobs": self._logprobs(logprobs)}
        return self.envelope([choice], "chat.completion.chunk")

    def _logprobs(self, entries: Items[TokenLogprob]) -> Json | None:
        if not self.with_logprobs:
            return None
        return {
            "content": [
                {**self._token(e.token, e.logprob), "top_logprobs": [self._token(*best) for best in e.top]}
                for e in entries
            ],
            "refusal": None,
        }

    def _token(self, token: int, logprob: float) -> Json:
        text = self.token_text(token)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


@dataclass(frozen=True)
class CompletionForm(_Base):
    prefix = "cmpl"
    kind = "text_completion"

    def whole(self, text: str, finish_reason: str, logprobs: Items[TokenLogprob], usage: Usage) -> Json:
        return self.envelope([self._choice(text, finish_reason, logprobs)], usage=usage)

    def opening(self) -> list[Json]:
        return []

    def chunk(self, delta: Delta) -> Json:
        return self.envelope([self._choice(delta.text, delta.finish_reason, delta.logprobs)])

    def usage_chunk(self, usage: Usage) -> Json:
        return self.envelope([], usage=usage)

    def _choice(self, text: str, finish_reason: str | None, logprobs: Iterable[TokenLogprob]) -> Json:
        listed = self._logprobs(list(logprobs)) if self.with_logprobs else None
        return {"index": 0, "text": text, "finish_reason": finish_reason, "logprobs": listed}

    def _logprobs(self, entries: Items[TokenLogprob]) -> Json:
        return {
            "tokens": [self.token_text(entry.token) for entry in entries],
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": [{self.token_text(token): value for token, value in entry.top} for entry in entries],
        }

"""Answers in the forms of the OpenAI protocol: text completions and chat completions, whole or as chunks, and
embeddings."""

import base64
import struct
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from serving.engine_protocol import Served
from serving.prepare import Asked
from serving.protocol import CompletionRequest, Usage
from serving.request import Delta, Embedding, FinishReason, TokenLogprob

Json = dict[str, Any]


class Form(Protocol):
    """How one kind of endpoint puts an answer; made anew for each, since what a chunk holds depends on those before."""

    def whole(self, choices: Sequence[Delta], usage: Usage) -> Json:
        """`choices`: all of each answer in one delta."""

    def opening(self) -> list[Json]:
        """Chunks before the first token."""

    def chunk(self, index: int, delta: Delta) -> Json | None:
        """What a delta shows; nothing while its text is still held back."""

    def usage_chunk(self, usage: Usage) -> Json: ...


def joined(deltas: Sequence[Delta]) -> Delta:
    """Deltas of one answer, in order, as one."""
    return Delta(
        text="".join(delta.text for delta in deltas),
        tokens=tuple(token for delta in deltas for token in delta.tokens),
        finish_reason=deltas[-1].finish_reason,
        logprobs=tuple(entry for delta in deltas for entry in delta.logprobs),
        prompt_logprobs=tuple(entry for delta in deltas for entry in delta.prompt_logprobs),
    )


@dataclass(frozen=True)
class Envelope:
    """What is around the choices, the same in every chunk."""

    prefix: str
    kind: str
    model: str
    version: str  # of the deployment
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def around(self, choices: list[Json], kind: str | None = None, usage: Usage | None = None) -> Json:
        body: Json = {
            "id": f"{self.prefix}-{self.id}",
            "object": kind or self.kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.version,
            "choices": choices,
        }
        return body if usage is None else {**body, "usage": usage.model_dump()}


class ChatForm:
    def __init__(self, model: str, served: Served, n: int, with_logprobs: bool) -> None:
        self._envelope = Envelope("chatcmpl", "chat.completion", model, served.version)
        self._tokenizer, self._n, self._with_logprobs = served.tokenizer, n, with_logprobs

    def whole(self, choices: Sequence[Delta], usage: Usage) -> Json:
        return self._envelope.around(
            [
                self._choice(index, "message", {"role": "assistant", "content": delta.text}, delta)
                for index, delta in enumerate(choices)
            ],
            usage=usage,
        )

    def opening(self) -> list[Json]:
        begun = {"role": "assistant", "content": ""}
        return [self._chunk([self._choice(index, "delta", begun, Delta("", ()))]) for index in range(self._n)]

    def chunk(self, index: int, delta: Delta) -> Json | None:
        if not (delta.text or delta.finish_reason or delta.logprobs):
            return None
        return self._chunk([self._choice(index, "delta", {"content": delta.text} if delta.text else {}, delta)])

    def usage_chunk(self, usage: Usage) -> Json:
        return self._chunk([], usage)

    def _chunk(self, choices: list[Json], usage: Usage | None = None) -> Json:
        return self._envelope.around(choices, "chat.completion.chunk", usage)

    def _choice(self, index: int, part: str, content: Json, delta: Delta) -> Json:
        logprobs = self._logprobs(delta.logprobs) if self._with_logprobs else None
        return {"index": index, part: content, "finish_reason": delta.finish_reason, "logprobs": logprobs}

    def _logprobs(self, entries: Iterable[TokenLogprob]) -> Json:
        content = [
            {**self._token(e.token, e.logprob), "top_logprobs": [self._token(*best) for best in e.top]} for e in entries
        ]
        return {"content": content, "refusal": None}

    def _token(self, token: int, logprob: float) -> Json:
        content = self._tokenizer.token_bytes(token)
        return {"token": content.decode(errors="replace"), "logprob": logprob, "bytes": list(content)}


class CompletionForm:
    """With `echo` each answer begins with its prompt, and so do its log-probabilities, the first of which is null."""

    def __init__(self, body: CompletionRequest, served: Served, asked: Asked) -> None:
        self._envelope = Envelope("cmpl", "text_completion", body.model, served.version)
        self._tokenizer, self._asked = served.tokenizer, asked
        self._with_logprobs = body.logprobs is not None
        self._echoes: tuple[str, ...] = ()
        if body.echo:
            texts = zip(body.prompt, asked.prompts, strict=True)
            self._echoes = tuple(p if isinstance(p, str) else served.tokenizer.decode(ids) for p, ids in texts)
        self._begun: set[int] = set()
        self._offsets = [0] * len(asked.requests)  # of the next token, in characters of its answer

    def whole(self, choices: Sequence[Delta], usage: Usage) -> Json:
        return self._envelope.around(
            [self._choice(index, *self._with_prompt(index, delta)) for index, delta in enumerate(choices)], usage=usage
        )

    def opening(self) -> list[Json]:
        return []

    def chunk(self, index: int, delta: Delta) -> Json | None:
        text, entries, reason = self._with_prompt(index, delta)
        if not (text or entries or reason):
            return None
        return self._envelope.around([self._choice(index, text, entries, reason)])

    def usage_chunk(self, usage: Usage) -> Json:
        return self._envelope.around([], usage=usage)

    def _with_prompt(
        self, index: int, delta: Delta
    ) -> tuple[str, list["TokenLogprob | _Unscored"], FinishReason | None]:
        """Text, log-probabilities and reason of a delta; of the first with the prompt, where it is echoed."""
        text, entries = delta.text, [*delta.prompt_logprobs, *delta.logprobs]
        if not self._echoes or index in self._begun:
            return text, list(entries), delta.finish_reason
        self._begun.add(index)
        first = [_Unscored(self._asked.requests[index].prompt[0])] if self._with_logprobs else []
        return self._echoes[index // self._asked.n] + text, [*first, *entries], delta.finish_reason

    def _choice(
        self, index: int, text: str, entries: list["TokenLogprob | _Unscored"], reason: FinishReason | None
    ) -> Json:
        logprobs = self._logprobs(index, entries) if self._with_logprobs else None
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": logprobs}

    def _logprobs(self, index: int, entries: list["TokenLogprob | _Unscored"]) -> Json:
        texts, offsets = [self._tokenizer.token_text(entry.token) for entry in entries], []
        for text in texts:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": [self._top(entry) for entry in entries],
            "text_offset": offsets,
        }

    def _top(self, entry: "TokenLogprob | _Unscored") -> Mapping[str, float] | None:
        """The best tokens and the chosen one by their texts; of tokens with the same text the most probable."""
        if entry.logprob is None:
            return None
        top: dict[str, float] = {}
        for token, value in (*entry.top, (entry.token, entry.logprob)):
            top.setdefault(self._tokenizer.token_text(token), value)
        return top


@dataclass(frozen=True)
class _Unscored:
    """The first token of a prompt: nothing is before it that would make it probable."""

    token: int
    logprob: None = None
    top: tuple[tuple[int, float], ...] = ()


def embedding_list(model: str, embeddings: Sequence[Embedding], encoding_format: str, usage: Usage) -> Json:
    def encode(vector: tuple[float, ...]) -> list[float] | str:
        if encoding_format == "float":
            return list(vector)
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

    data = [
        {"object": "embedding", "index": index, "embedding": encode(embedding.vector)}
        for index, embedding in enumerate(embeddings)
    ]
    counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens}
    return {"object": "list", "data": data, "model": model, "usage": counts}

"""A body -> what the engine is asked: prompts in tokens, parameters that fit the model. Says what does not."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serving.engine_protocol import Served
from serving.errors import ApiError
from serving.grammars import Grammars
from serving.protocol import MAX_GRAMMAR, ChatCompletionRequest, CompletionRequest, EmbeddingRequest, Prompt
from serving.request import Grammar, Request, SamplingParams

Generation = CompletionRequest | ChatCompletionRequest


@dataclass(frozen=True)
class Asked:
    """The engine's requests of one HTTP request: `n` for each prompt, in the order of the choices."""

    requests: tuple[Request, ...]
    n: int = 1

    @property
    def prompts(self) -> tuple[tuple[int, ...], ...]:
        return tuple(request.prompt for request in self.requests[:: self.n])

    @property
    def prompt_tokens(self) -> int:
        """Each prompt counts once, however many answers there are to it."""
        return sum(len(prompt) for prompt in self.prompts)


def prepare(served: Served, body: Generation) -> Asked:
    """Answers end at the context at the latest, with finish_reason 'length'.

    Raises:
        ApiError: a prompt is empty, holds an unknown token id, or does not fit the context; a field does not fit the
            model or another field.
    """
    wanted, field = _wanted_tokens(body), _prompt_field(body)
    params = _params(served, body)
    requests = []
    for prompt in _prompts(served, body):
        room = _room(served, prompt, body.model, field, needed=0 if wanted == 0 else 1)
        fitting = replace(params, max_tokens=room if wanted is None else min(room, wanted))
        requests += [_request(prompt, replace(fitting, seed=body.seed_of(choice))) for choice in range(body.n)]
    deadline = None if body.timeout_seconds is None else time.monotonic() + body.timeout_seconds
    requests = [replace(request, priority=body.priority, deadline=deadline) for request in requests]
    return Asked(tuple(requests), body.n)


def prepare_embeddings(served: Served, body: EmbeddingRequest) -> Asked:
    """Raises:
    ApiError: as `prepare`.
    """
    prompts = [_encode(served, item, "input") for item in body.input]
    for prompt in prompts:
        _room(served, prompt, body.model, "input", needed=0)
    params = SamplingParams(max_tokens=0)
    return Asked(tuple(replace(_request(prompt, params), embed=True) for prompt in prompts))


def grammar_of(body: Generation) -> tuple[Grammar, str] | None:
    """What the answer must be, and the field that says so.

    Raises:
        ApiError: two fields say so, or another does not go with it.
    """
    try:
        guided = body.grammar()
    except ValueError as error:
        raise ApiError(400, str(error), param="guided_regex") from error
    except RecursionError as error:
        raise ApiError(400, "the schema is nested too deeply", param="response_format") from error
    if guided is not None and body.ignore_eos:
        message = f"'ignore_eos' cannot go with '{guided[1]}': an answer ends where its grammar does"
        raise ApiError(400, message, param="ignore_eos")
    return guided


def check_grammar(grammars: Grammars, grammar: Grammar, field: str) -> None:
    """Raises:
    ApiError: the schema or expression of this field cannot be followed; says why.
    """
    if len(grammar.source) > MAX_GRAMMAR:
        raise ApiError(400, f"'{field}' has more than {MAX_GRAMMAR} characters", param=field)
    try:
        grammars.check(grammar)
    except ValueError as error:
        raise ApiError(400, f"'{field}' cannot be followed: {error}", param=field, code="invalid_grammar") from error


def _request(prompt: tuple[int, ...], params: SamplingParams) -> Request:
    return Request(uuid.uuid4().hex, prompt, params)


def _room(served: Served, prompt: Sequence[int], model: str, field: str, needed: int) -> int:
    """How many tokens an answer may have; `needed` of them it must."""
    if not prompt:
        raise ApiError(400, "the prompt is empty; give at least one token", param=field)
    room = served.context - len(prompt)
    if room < needed:
        reason = ", of which the answer needs at least one" if needed else ""
        message = (
            f"the prompt has {len(prompt)} tokens; the context of model '{model}' is {served.context} tokens{reason}; "
            "shorten the prompt"
        )
        raise ApiError(400, message, param=field, code="context_length_exceeded")
    return room


def _prompt_field(body: Generation) -> str:
    return "prompt" if isinstance(body, CompletionRequest) else "messages"


def _prompts(served: Served, body: Generation) -> list[tuple[int, ...]]:
    if isinstance(body, CompletionRequest):
        return [_encode(served, prompt, "prompt") for prompt in body.prompt]
    messages = [message.as_message() for message in body.messages]
    return [tuple(served.tokenizer.encode_chat(messages, add_generation_prompt=True)[0])]


def _encode(served: Served, prompt: Prompt, field: str) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return tuple(served.tokenizer.encode(prompt))
    check_tokens(served, prompt, field)
    return prompt


def check_tokens(served: Served, tokens: Sequence[int], field: str) -> None:
    """Raises:
    ApiError: one of them is not in the vocabulary.
    """
    unknown = [token for token in tokens if not 0 <= token < served.vocab_size]
    if unknown:
        message = f"token id {unknown[0]} is not in the vocabulary of {served.vocab_size} tokens"
        raise ApiError(400, message, param=field)


def _params(served: Served, body: Generation) -> SamplingParams:
    """Those that all answers share."""
    check_tokens(served, tuple(body.logit_bias), "logit_bias")
    guided, logprobs = grammar_of(body), _wanted_logprobs(served, body)
    return SamplingParams(
        max_tokens=0,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=max(body.top_k, 0),
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        logit_bias=tuple(body.logit_bias.items()),
        stop=body.stop,
        ignore_end=body.ignore_eos,
        logprobs=logprobs,
        prompt_logprobs=logprobs if isinstance(body, CompletionRequest) and body.echo else None,
        grammar=guided[0] if guided is not None else None,
    )


def _wanted_tokens(body: Generation) -> int | None:
    if isinstance(body, CompletionRequest):
        if body.max_tokens == 0 and not body.echo:
            message = "max_tokens 0 needs echo to be true; otherwise there is nothing to answer"
            raise ApiError(400, message, param="max_tokens")
        return body.max_tokens
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise ApiError(400, "give max_completion_tokens or max_tokens, not both", param="max_tokens")
    return body.max_completion_tokens or body.max_tokens


def _wanted_logprobs(served: Served, body: Generation) -> int | None:
    if isinstance(body, CompletionRequest):
        return body.logprobs
    return min(body.top_logprobs or 0, served.vocab_size) if body.logprobs else None

"""Bodies of the OpenAI protocol, as far as it is spoken here. A field that is not listed is an error that names it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trainer.spec import Message, Role, without_consequences

MAX_STOP = 4


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# -- requests --------------------------------------------------------------------------------------------------------


class StreamOptions(Body):
    include_usage: bool = False


class GenerationRequest(Body):
    """What both kinds of completion take. `top_k` and `ignore_eos` are additions that other servers have too."""

    model: str
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="sample from the k best tokens; 0: from all")
    seed: int | None = None
    stop: tuple[str, ...] = Field((), max_length=MAX_STOP)
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    # Accepted at the values that change nothing, because clients send them unasked.
    n: Literal[1] = 1
    presence_penalty: Literal[0] = 0
    frequency_penalty: Literal[0] = 0

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, body: Any) -> Any:
        """The protocol lets clients send null for what they leave unset; several do."""
        if not isinstance(body, dict):
            return body
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in body.items() if value is not None or name not in optional}

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value or ()

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("a stop string must not be empty")
        return value

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(GenerationRequest):
    prompt: str | tuple[int, ...]
    max_tokens: int = Field(16, gt=0)
    logprobs: int | None = Field(None, ge=0, le=5)

    @field_validator("prompt", mode="before")
    @classmethod
    def _text_or_ids(cls, value: Any) -> Any:
        ids = isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
        if not isinstance(value, str) and not ids:
            raise ValueError("must be one text or one list of token ids; send several prompts as several requests")
        return value


class TextPart(Body):
    type: Literal["text"]
    text: str


class ChatMessage(Body):
    role: Role
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, value: Any) -> Any:
        """Clients may send a text as a list of text parts."""
        if not isinstance(value, list):
            return value
        return "".join(TextPart.model_validate(part).text for part in value)

    def as_message(self) -> Message:
        return Message(role=self.role, content=self.content)


class ChatCompletionRequest(GenerationRequest):
    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    max_tokens: int | None = Field(None, gt=0)
    max_completion_tokens: int | None = Field(None, gt=0, description="the newer name of max_tokens")
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @field_validator("top_logprobs")
    @classmethod
    def _needs_logprobs(cls, value: int | None, info: Any) -> int | None:
        if value is not None and not info.data.get("logprobs"):
            raise ValueError("needs logprobs to be true")
        return value


# -- answers ---------------------------------------------------------------------------------------------------------


class Usage(Body):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, prompt: int, completion: int) -> "Usage":
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class ModelCard(Body):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "octavo"
    max_model_len: int = Field(description="tokens of prompt and answer together")


class ModelList(Body):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class ErrorBody(Body):
    """The error shape of the OpenAI protocol."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ApiError(Exception):
    """A refusal with its status; becomes `{"error": …}`."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None,
        code: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.body = {"error": ErrorBody(message=message, type=kind, param=param, code=code).model_dump()}


def validation_error(errors: list[Any]) -> ApiError:
    """One sentence a wrong field, the first of them as `param`."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}", code="invalid_json")
    lines = []
    for item in without_consequences(errors):
        message = str(item["msg"]).removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "is not supported by this server; leave it out"
        lines.append(f"'{_field(item['loc'])}': {message}")
    code = "unsupported_parameter" if first["type"] == "extra_forbidden" else "invalid_value"
    param = _field(first["loc"])
    return ApiError(400, "; ".join(lines), param=param if param != "body" else None, code=code)


def _field(location: tuple[Any, ...]) -> str:
    """('body', 'messages', 0, 'role') -> 'messages.0.role'; what pydantic adds for a union's branch is left out."""
    parts = [str(part) for part in location if part != "body"]
    return ".".join(part for part in parts if "[" not in part and part not in ("str", "int")) or "body"

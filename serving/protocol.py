"""Bodies of the OpenAI protocol, as far as it is spoken here. A field that is not listed is an error that names it."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from serving.request import Grammar
from trainer.spec import Message, Role

MAX_STOP, MAX_STOP_LENGTH = 4, 256
MAX_CHOICES = 128
MAX_GRAMMAR = 65_536  # characters
SEEDS = 2**64


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RequestBody(Body):
    """A body whose optional fields may be null: the protocol lets clients send that for what they leave unset."""

    @model_validator(mode="before")
    @classmethod
    def _null_is_unset(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        optional = {field.alias or name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in body.items() if value is not None or name not in optional}


def _whole_characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is no character") from error
    return text


Text = Annotated[str, AfterValidator(_whole_characters)]


# -- prompts ---------------------------------------------------------------------------------------------------------


Prompt = Text | tuple[int, ...]


def _as_prompts(value: Any) -> list[Any]:
    """One text, one list of token ids, or a list of such, as a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, str) or _are_ids(item) for item in value):
        return value
    if _are_ids(value):
        return [value]
    raise ValueError("must be a text, a list of token ids, or a list of such")


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value)


Prompts = Annotated[tuple[Prompt, ...], BeforeValidator(_as_prompts)]


# -- requests --------------------------------------------------------------------------------------------------------


class StreamOptions(RequestBody):
    include_usage: bool = False


class JsonSchema(RequestBody):
    """`strict` changes nothing: an answer always follows the schema."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(RequestBody):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with the type 'json_schema' and is needed there")
        return self

    def grammar(self) -> Grammar | None:
        if self.type == "text":
            return None
        schema = self.json_schema.schema_ if self.json_schema is not None else {"type": "object"}
        return Grammar("json_schema", json.dumps(schema))


StopString = Annotated[Text, StringConstraints(max_length=MAX_STOP_LENGTH)]
Bias = Annotated[float, Field(ge=-100, le=100)]


class GenerationRequest(RequestBody):
    """What both kinds of completion take. `top_k`, `min_p`, `repetition_penalty`, `ignore_eos` and `guided_regex` are
    additions that other servers have too; `priority` and `timeout_seconds` are ours."""

    model: Text
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, description="sample from the k best tokens; 0 or -1: from all")
    min_p: float = Field(0.0, ge=0, le=1, description="leave out what is less probable than this share of the best")
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    logit_bias: dict[int, Bias] = Field({}, max_length=1024)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: tuple[StopString, ...] = Field((), max_length=MAX_STOP)
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    guided_regex: Text | None = None
    priority: int = Field(0, ge=0, le=100, description="higher ones wait for lower ones")
    timeout_seconds: float | None = Field(None, gt=0, le=86_400, description="an answer not whole by then is given up")

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

    @field_validator("stream_options")
    @classmethod
    def _needs_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("needs stream to be true")
        return value

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def seed_of(self, choice: int) -> int | None:
        """The first answer draws with the seed, each further one with the next number."""
        return None if self.seed is None else (self.seed + choice) % SEEDS

    def grammar(self) -> tuple[Grammar, str] | None:
        """What the answer must be, and the field that says so.

        Raises:
            ValueError: two fields say so.
        """
        found = [(Grammar("regex", self.guided_regex), "guided_regex")] if self.guided_regex is not None else []
        if self.response_format is not None and (grammar := self.response_format.grammar()) is not None:
            found.append((grammar, "response_format"))
        if len(found) > 1:
            raise ValueError("give response_format or guided_regex, not both")
        return found[0] if found else None


class CompletionRequest(GenerationRequest):
    prompt: Prompts
    max_tokens: int = Field(16, ge=0, description="0 only with echo: the prompt is scored and nothing written")
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool = False


class TextPart(Body):
    type: Literal["text"]
    text: Text


class ChatMessage(Body):
    role: Role
    content: Text

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
    def _needs_logprobs(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and not info.data.get("logprobs"):
            raise ValueError("needs logprobs to be true")
        return value


class EmbeddingRequest(RequestBody):
    model: Text
    input: Prompts
    encoding_format: Literal["float", "base64"] = "float"


class TokenizeRequest(RequestBody):
    """vLLM's: a text as /v1/completions reads it, or a chat. Without `model` the only one there is."""

    model: Text | None = None
    prompt: Text | None = None
    messages: tuple[ChatMessage, ...] | None = Field(None, min_length=1)
    add_generation_prompt: bool = True

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give prompt or messages")
        return self


class DetokenizeRequest(RequestBody):
    model: Text | None = None
    tokens: tuple[int, ...]


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


class Tokenized(Body):
    tokens: list[int]
    count: int
    max_model_len: int


class Detokenized(Body):
    prompt: str

"""The routes of the OpenAI protocol, and vLLM's two for tokens."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from serving.answering import Answer
from serving.dependencies import AdmittedKeyDep, KeyDep, ServingDep
from serving.engine_protocol import Served
from serving.prepare import check_tokens
from serving.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    Detokenized,
    DetokenizeRequest,
    EmbeddingRequest,
    ModelCard,
    ModelList,
    Tokenized,
    TokenizeRequest,
)
from serving.request import Embedding
from serving.responses import ChatForm, CompletionForm, embedding_list
from serving.streaming import CLIENT_CLOSED_REQUEST, VERSION_HEADER, ClientGone, respond, unless_gone

router = APIRouter()


@router.get("/v1/models")
async def list_models(serving: ServingDep, key: KeyDep) -> ModelList:
    return ModelList(data=[_card(name, served) for name, served in serving.deployments.ready().items()])


@router.get("/v1/models/{name}")
async def show_model(name: str, serving: ServingDep, key: KeyDep) -> ModelCard:
    return _card(name, serving.find(name))


def _card(name: str, served: Served) -> ModelCard:
    return ModelCard(id=name, created=served.created, max_model_len=served.context)


@router.post("/v1/completions")
async def complete(body: CompletionRequest, request: Request, serving: ServingDep, key: AdmittedKeyDep) -> Response:
    answer = await serving.start(body, key)
    form = CompletionForm(body, answer.served, answer.asked)
    return await respond(request, answer, form, stream=body.stream, usage=body.wants_usage)


@router.post("/v1/chat/completions")
async def chat(body: ChatCompletionRequest, request: Request, serving: ServingDep, key: AdmittedKeyDep) -> Response:
    answer = await serving.start(body, key)
    form = ChatForm(body.model, answer.served, body.n, body.logprobs)
    return await respond(request, answer, form, stream=body.stream, usage=body.wants_usage)


@router.post("/v1/embeddings")
async def embed(body: EmbeddingRequest, request: Request, serving: ServingDep, key: AdmittedKeyDep) -> Response:
    """The mean over a text's tokens of the last hidden state, behind the last norm, scaled to length 1."""
    answer = await serving.start_embedding(body, key)
    try:
        embeddings = await unless_gone(request, _embeddings(answer))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    listed = embedding_list(body.model, embeddings, body.encoding_format, answer.usage)
    return JSONResponse(listed, headers={VERSION_HEADER: answer.served.version})


async def _embeddings(answer: Answer) -> list[Embedding]:
    found = {index: event async for index, event in answer.events() if isinstance(event, Embedding)}
    return [found[index] for index in range(len(answer.asked.requests))]


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, serving: ServingDep, key: KeyDep) -> Tokenized:
    served = serving.find_only(body.model)
    if body.messages is not None:
        messages = [message.as_message() for message in body.messages]
        generation = body.add_generation_prompt
        tokens, _ = served.tokenizer.encode_chat(messages, add_generation_prompt=generation)
    else:
        tokens = served.tokenizer.encode(body.prompt or "")
    return Tokenized(tokens=tokens, count=len(tokens), max_model_len=served.context)


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, serving: ServingDep, key: KeyDep) -> Detokenized:
    served = serving.find_only(body.model)
    check_tokens(served, body.tokens, "tokens")
    return Detokenized(prompt=served.tokenizer.decode(body.tokens))

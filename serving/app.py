"""The inference endpoint: OpenAI's routes, health, metrics and the state of the deployments."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from serving.answering import Answer, Serving, UsageLog
from serving.deployments import Deployments, DeploymentState
from serving.engine_process import start_engine
from serving.engine_protocol import Served
from serving.metrics import Metrics
from serving.protocol import (
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    ModelCard,
    ModelList,
    validation_error,
)
from serving.request import Delta
from serving.responses import ChatForm, CompletionForm, Form
from serving.settings import Settings

Result = TypeVar("Result")
CLIENT_CLOSED_REQUEST = 499  # nginx's name for it; nobody is there to read the answer
VERSION_HEADER = "X-Octavo-Version"
router = APIRouter()


def create_app(settings: Settings, load: Callable[[Path], Served] | None = None) -> FastAPI:
    """The app; `load` makes an engine of an export folder (tests bring their own)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        deployments = Deployments(settings.home / "serving.json", load or partial(start_engine, settings=settings))
        settings.home.mkdir(parents=True, exist_ok=True)
        app.state.serving = Serving(settings, deployments, Metrics(), UsageLog(settings.home / "usage.jsonl"))
        deployments.start()
        yield
        await asyncio.to_thread(deployments.close)

    app = FastAPI(title="Octavo serving", lifespan=lifespan)
    app.include_router(router)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)
    return app


# -- what routes depend on -------------------------------------------------------------------------------------------


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


def _key(request: Request) -> str:
    """The id of the key a request carries.

    Raises:
        ApiError: 401, there is none or it is unknown.
    """
    scheme, _, presented = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented:
        message = "no key given; send the header 'Authorization: Bearer <key>' with a key of this platform"
        raise ApiError(401, message, kind="authentication_error", code="missing_api_key")
    found = _serving(request).deployments.key_id(presented.strip())
    if found is None:
        message = "this key is not known; ask an administrator for one, or check that it was copied whole"
        raise ApiError(401, message, kind="authentication_error", code="invalid_api_key")
    return found


ServingDep = Annotated[Serving, Depends(_serving)]
KeyDep = Annotated[str, Depends(_key)]


# -- the OpenAI protocol ---------------------------------------------------------------------------------------------


@router.get("/v1/models")
async def list_models(serving: ServingDep, key: KeyDep) -> ModelList:
    return ModelList(data=[_card(name, served) for name, served in serving.deployments.ready().items()])


@router.get("/v1/models/{name}")
async def show_model(name: str, serving: ServingDep, key: KeyDep) -> ModelCard:
    return _card(name, serving.find(name))


@router.post("/v1/completions")
async def complete(body: CompletionRequest, request: Request, serving: ServingDep, key: KeyDep) -> Response:
    answer = serving.start(body, key)
    form = CompletionForm(body.model, answer.served.tokenizer, body.logprobs is not None, answer.served.version)
    return await _respond(request, answer, form, body.stream, body.wants_usage)


@router.post("/v1/chat/completions")
async def chat(body: ChatCompletionRequest, request: Request, serving: ServingDep, key: KeyDep) -> Response:
    answer = serving.start(body, key)
    form = ChatForm(body.model, answer.served.tokenizer, body.logprobs, answer.served.version)
    return await _respond(request, answer, form, body.stream, body.wants_usage)


def _card(name: str, served: Served) -> ModelCard:
    return ModelCard(id=name, created=served.created, max_model_len=served.context)


async def _respond(request: Request, answer: Answer, form: Form, stream: bool, usage: bool) -> Response:
    deltas, headers = answer.deltas(), {VERSION_HEADER: answer.served.version}
    try:
        if not stream:
            return JSONResponse(await _unless_gone(request, _whole(answer, deltas, form)), headers=headers)
        # With the first token in hand: a request that fails at once is an error with a status, not a broken stream.
        first = await _unless_gone(request, anext(deltas))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    events = _events(answer, first, deltas, form, usage)
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _whole(answer: Answer, deltas: AsyncIterator[Delta], form: Form) -> dict[str, Any]:
    collected = [delta async for delta in deltas]
    reason = collected[-1].finish_reason
    assert reason is not None
    text = "".join(delta.text for delta in collected)
    return form.whole(text, reason, [entry for delta in collected for entry in delta.logprobs], answer.usage)


async def _events(
    answer: Answer, first: Delta, deltas: AsyncGenerator[Delta, None], form: Form, usage: bool
) -> AsyncIterator[str]:
    """Server-sent events. Tokens whose text is still held back show nothing."""
    for chunk in form.opening():
        yield _event(chunk)
    async with aclosing(_chain(first, deltas)) as all_deltas:
        try:
            async for delta in all_deltas:
                if delta.text or delta.finish_reason or delta.logprobs:
                    yield _event(form.chunk(delta))
        except ApiError as error:
            yield _event(error.body)
            return
    if usage:
        yield _event(form.usage_chunk(answer.usage))
    yield "data: [DONE]\n\n"


async def _chain(first: Delta, deltas: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    async with aclosing(deltas):
        yield first
        async for delta in deltas:
            yield delta


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


class ClientGone(Exception):
    """The client closed the connection before its answer was there."""


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Await `work`, but cancel it when the client disconnects.

    Raises:
        ClientGone: it did.
    """

    async def disconnect() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(disconnect())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


# -- operation -------------------------------------------------------------------------------------------------------


@router.get("/healthz")
async def health(serving: ServingDep) -> Response:
    """Whether every engine lives."""
    dead = [name for name, served in serving.deployments.loaded() if not served.engine.is_alive()]
    if dead:
        return JSONResponse({"status": "failed", "error": f"the engine of {', '.join(dead)} has stopped"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readiness(serving: ServingDep) -> Response:
    """Whether at least one model answers; else why not."""
    models, error = sorted(serving.deployments.ready()), serving.deployments.error
    if models:
        return JSONResponse({"status": "ready", "models": models, "error": error})
    waiting = [f"{s.model_name}: {s.error or s.state}" for s in serving.deployments.states()]
    reason = error or "; ".join(waiting) or "nothing is deployed"
    return JSONResponse({"status": "not ready", "models": [], "error": reason}, 503)


@router.get("/metrics")
async def metrics(serving: ServingDep) -> Response:
    stats = {(name, served.version): served.engine.stats() for name, served in serving.deployments.loaded()}
    return Response(serving.metrics.render(stats), media_type=CONTENT_TYPE_LATEST)


@router.get("/deployments")
async def deployments(serving: ServingDep, key: KeyDep) -> list[DeploymentState]:
    return serving.deployments.states()


# -- errors ----------------------------------------------------------------------------------------------------------


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    _serving(request).metrics.refusals.labels(error.status).inc()
    return JSONResponse(error.body, error.status)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return await _on_api_error(request, validation_error(list(error.errors())))


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    return await _on_api_error(request, ApiError(error.status_code, message))


async def _on_defect(request: Request, error: Exception) -> Response:
    """Starlette logs the traceback; the client learns that it was not at fault."""
    message = "the server failed on this request; its log says why"
    return await _on_api_error(request, ApiError(500, message, kind="server_error"))

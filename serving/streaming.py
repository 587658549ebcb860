"""An answer over HTTP: whole, or as server-sent events; given up when the client leaves."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from serving.answering import Answer
from serving.errors import ApiError
from serving.request import Delta, Embedding
from serving.responses import Form, joined

Result = TypeVar("Result")
CLIENT_CLOSED_REQUEST = 499  # nginx's name for it; nobody is there to read the answer
VERSION_HEADER = "X-Octavo-Version"
Events = AsyncGenerator[tuple[int, Delta | Embedding], None]


async def respond(request: Request, answer: Answer, form: Form, *, stream: bool, usage: bool) -> Response:
    events, headers = answer.events(), {VERSION_HEADER: answer.served.version}
    try:
        if not stream:
            return JSONResponse(await unless_gone(request, _whole(answer, events, form)), headers=headers)
        # With the first token in hand: a request that fails at once is an error with a status, not a broken stream.
        first = await unless_gone(request, anext(events))
    except ClientGone:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    stream_of = _stream(answer, _chain(first, events), form, usage)
    return StreamingResponse(stream_of, media_type="text/event-stream", headers=headers)


async def _whole(answer: Answer, events: Events, form: Form) -> dict[str, Any]:
    collected: list[list[Delta]] = [[] for _ in answer.asked.requests]
    async for index, event in events:
        assert isinstance(event, Delta), "only requests for embeddings are answered with them"
        collected[index].append(event)
    return form.whole([joined(deltas) for deltas in collected], answer.usage)


async def _stream(answer: Answer, events: Events, form: Form, usage: bool) -> AsyncIterator[str]:
    for chunk in form.opening():
        yield _event(chunk)
    async with aclosing(events):
        try:
            async for index, event in events:
                assert isinstance(event, Delta), "only requests for embeddings are answered with them"
                if (shown := form.chunk(index, event)) is not None:
                    yield _event(shown)
        except ApiError as error:
            yield _event(error.body)
            return
    if usage:
        yield _event(form.usage_chunk(answer.usage))
    yield "data: [DONE]\n\n"


async def _chain(first: tuple[int, Delta | Embedding], events: Events) -> Events:
    async with aclosing(events):
        yield first
        async for event in events:
            yield event


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


class ClientGone(Exception):
    """The client closed the connection before its answer was there."""


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
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

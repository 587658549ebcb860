"""Bodies that are too long are refused, in the protocol's error shape, before they lie in memory."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 10 * 2**20  # bytes


class BodyLimit:
    """Raises the 413 where the app reads the body, so that the app's own handlers answer it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        left = MAX_BODY

        async def limited() -> Message:
            nonlocal left
            if declared.isdigit() and int(declared) > MAX_BODY:
                raise _too_large()
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise _too_large()
            return message

        await self._app(scope, limited, send)


def _too_large() -> HTTPException:
    return HTTPException(413, f"the body is too large; at most {MAX_BODY} bytes are read")

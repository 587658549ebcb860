"""Refusals in the error shape of the OpenAI protocol: {"error": {"message", "type", "param", "code"}}."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from trainer.spec import without_consequences


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ApiError(Exception):
    """A refusal with its status; becomes `{"error": …}`."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None,
        code: str | None = None, headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.headers = status, headers
        self.body = {"error": ErrorBody(message=message, type=kind, param=param, code=code).model_dump()}


def too_many(message: str, code: str, retry_after: int) -> ApiError:
    """429; clients of the protocol wait for as many seconds by themselves."""
    return ApiError(429, message, kind="rate_limit_error", code=code, headers={"Retry-After": str(retry_after)})


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


def install(app: FastAPI, count: Callable[[Request, int], None]) -> None:
    """Answer every error in the protocol's shape; `count` is told the status of each."""

    def respond(request: Request, error: ApiError) -> Response:
        count(request, error.status)
        return JSONResponse(error.body, error.status, dict(error.headers or {}))

    async def on_api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return respond(request, error)

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, validation_error(list(error.errors())))

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {_detail(error)}"
        return respond(request, ApiError(error.status_code, message))

    async def on_defect(request: Request, error: Exception) -> Response:
        # Starlette logs the traceback; the client learns that it was not at fault.
        message = "the server failed on this request; its log says why"
        return respond(request, ApiError(500, message, kind="server_error"))

    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_defect)


def _detail(error: HTTPException) -> str:
    """What the framework says, and of a body that it could not parse the reason."""
    if isinstance(error.__cause__, UnicodeDecodeError):
        return "the body is not valid UTF-8"
    if isinstance(error.__cause__, RecursionError):
        return "the body is nested too deeply"
    return error.detail

"""One shape for every error: {"error": {"code", "message"}}; each class carries its status."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from trainer.spec import explain_items


class ApiError(Exception):
    """What a request ends in when it cannot be done; the message says what is wrong and what to do."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"


class Unauthorized(ApiError):
    status, code = 401, "unauthorized"


class Forbidden(ApiError):
    status, code = 403, "forbidden"


class NotFound(ApiError):
    status, code = 404, "not_found"


class Conflict(ApiError):
    status, code = 409, "conflict"


class Invalid(ApiError):
    status, code = 422, "invalid"


class Unavailable(ApiError):
    status, code = 503, "unavailable"


def error_body(code: str, message: str) -> dict[str, dict[str, str]]:
    return {"error": {"code": code, "message": message}}


def _respond(status: int, code: str, message: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == Unauthorized.status else None
    return JSONResponse(error_body(code, message), status_code=status, headers=headers)


def _without_place(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """FastAPI puts 'body', 'query' … before the field; people know the field."""
    return [{**item, "loc": item["loc"][1:] or item["loc"]} for item in items]


async def _on_api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return _respond(error.status, error.code, str(error))


async def _on_request_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _respond(Invalid.status, Invalid.code, explain_items(_without_place(error.errors())))


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == NotFound.status else "http_error"
    message = f"{request.method} {request.url.path}: {error.detail}; the routes are listed at /docs"
    return _respond(error.status_code, code, message)


async def _on_defect(request: Request, error: Exception) -> JSONResponse:
    message = f"a defect of the backend ({type(error).__name__}); its log has the traceback"
    return _respond(ApiError.status, ApiError.code, message)


def install(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_request_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_defect)

"""The one file that speaks HTTP: one address spoken to with one key, and errors as sentences."""

from collections.abc import Generator, Mapping
from functools import cache
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

Shape = TypeVar("Shape")
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
# For what starts a process that loads the trainer's code first.
PATIENT = httpx.Timeout(90.0, connect=5.0)


class ClientError(Exception):
    """A request that did not work, as a sentence for people. `status` is None when nobody answered."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@cache
def _http() -> httpx.Client:
    # The two services are the platform's own; a proxy meant for the internet would not reach them.
    return httpx.Client(timeout=TIMEOUT, trust_env=False)


def error_sentence(response: httpx.Response) -> str:
    """The `error.message` both services answer with, or the status where something else answered."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        address = response.request.url
        return f"{address.scheme}://{address.netloc.decode()} answered {response.status_code} {response.reason_phrase}"
    return str(message)


class Service:
    """One address spoken to with one key."""

    def __init__(self, name: str, url: str, key: str) -> None:
        self.name, self.url = name, url
        self._headers = {"Authorization": f"Bearer {key}"}

    def unreachable(self, error: httpx.TransportError) -> ClientError:
        if isinstance(error, httpx.TimeoutException):
            return ClientError(f"The {self.name} at {self.url} did not answer in time; try again in a moment.")
        return ClientError(f"The {self.name} at {self.url} cannot be reached; is it running?")

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request.

        Raises:
            ClientError: nobody answered, or the answer is an error.
        """
        try:
            response = _http().request(method, self.url + path, headers=self._headers, **arguments)
        except httpx.TransportError as error:
            raise self.unreachable(error) from error
        if response.is_error:
            raise ClientError(error_sentence(response), response.status_code)
        return response

    def ask(self, shape: type[Shape] | Any, method: str, path: str, **arguments: Any) -> Shape:
        """Send a request and parse its JSON answer as `shape`.

        Raises:
            ClientError: as `request`, or the answer has another shape.
        """
        response = self.request(method, path, **arguments)
        try:
            parsed: Shape = TypeAdapter(shape).validate_json(response.content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "answer"
            raise ClientError(
                f"The {self.name} at {self.url} answered {method} {path} in a shape this dashboard does not know "
                f"({place}: {first['msg']}); are both of the same version?"
            ) from error
        return parsed

    def stream(self, path: str, body: Mapping[str, Any]) -> Generator[str]:
        """POST and yield the data of each server-sent event; closing the iterator closes the connection.

        Raises:
            ClientError: nobody answered, the connection broke, or the answer is an error.
        """
        try:
            with _http().stream("POST", self.url + path, headers=self._headers, json=body) as response:
                if response.is_error:
                    response.read()
                    raise ClientError(error_sentence(response), response.status_code)
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield line.removeprefix("data:").strip()
        except httpx.TransportError as error:
            raise self.unreachable(error) from error

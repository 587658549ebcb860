"""What the demo asks of the backend, as typed calls over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import BaseModel

RETRY_SECONDS = 60.0


class ApiError(ValueError):
    """The backend refused, or did not answer; the message is its own sentence."""


class JobState(BaseModel):
    """What the demo shows of a job; times are seconds since the epoch."""

    id: str
    name: str
    kind: str
    state: str
    step: int
    total_steps: int
    message: str
    error: str | None
    started: float | None
    finished: float | None
    reused_from: str | None
    spec: dict[str, Any]
    seconds_left: float | None
    run_folder: str

    @property
    def is_over(self) -> bool:
        return self.state in {"succeeded", "failed", "cancelled"}

    @property
    def seconds(self) -> float | None:
        """How long it took; nothing for a job that took over an earlier one's outcome."""
        if self.reused_from is not None:
            return 0.0
        return self.finished - self.started if self.started is not None and self.finished is not None else None


class PipelineState(BaseModel):
    id: str
    name: str
    state: str
    jobs: list[JobState]

    def job(self, name: str) -> JobState:
        return next(job for job in self.jobs if job.name == name)

    def last(self, kind: str) -> JobState | None:
        """The last job of a kind in recipe order."""
        return next((job for job in reversed(self.jobs) if job.kind == kind), None)


class Backend:
    """The backend's HTTP interface, as the admin."""

    def __init__(self, address: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=RETRY_SECONDS, trust_env=False
        )

    def start(self, body: dict[str, Any]) -> PipelineState:
        return PipelineState.model_validate(self._call("POST", "/pipelines", json=body).json())

    def pipeline(self, identity: str) -> PipelineState:
        return PipelineState.model_validate(self._call("GET", f"/pipelines/{identity}").json())

    def running(self, name: str) -> PipelineState | None:
        """The newest pipeline of a recipe that is still going on."""
        found = [PipelineState.model_validate(row) for row in self._call("GET", "/pipelines").json()]
        return next((pipeline for pipeline in found if pipeline.name == name and pipeline.state == "running"), None)

    def result(self, job: JobState) -> dict[str, Any]:
        return dict(self._call("GET", f"/jobs/{job.id}/result").json())

    def rows(self, job: JobState, artifact: str, limit: int) -> list[dict[str, Any]]:
        answer = self._call("GET", f"/jobs/{job.id}/rows", params={"artifact": artifact, "limit": limit})
        return list(answer.json()["rows"])

    def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        with refusals_as_errors():
            response = self._http.request(method, path, **arguments)
        if response.is_error:
            raise ApiError(message_of(response))
        return response


@contextmanager
def refusals_as_errors() -> Iterator[None]:
    """Turn a connection that fails into one sentence."""
    try:
        yield
    except httpx.TransportError as error:
        raise ApiError(f"no answer from {error.request.url}: {error}; is the platform up? (make up)") from error


def message_of(response: httpx.Response) -> str:
    """The sentence of an error in the platform's shape or in OpenAI's, which agree."""
    if response.headers.get("content-type", "").startswith("application/json"):
        return str(response.json()["error"]["message"])
    return f"{response.request.url} answered {response.status_code}"


def ask(address: str, key: str, model: str, question: str, max_tokens: int) -> str:
    """One chat completion, greedy, from the OpenAI-compatible endpoint."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": max_tokens,
    }
    headers = {"Authorization": f"Bearer {key}"}
    with refusals_as_errors():
        response = httpx.post(
            f"{address}/v1/chat/completions", json=body, headers=headers, timeout=RETRY_SECONDS, trust_env=False
        )
    if response.is_error:
        raise ApiError(message_of(response))
    return str(response.json()["choices"][0]["message"]["content"])

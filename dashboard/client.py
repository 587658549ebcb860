"""The one file that speaks HTTP: the backend's routes, and serving's public endpoint."""

import json
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from dashboard.data_schemas import (
    Dataset,
    Decision,
    Lineage,
    PackedRow,
    ReviewItem,
    ReviewQueue,
    ReviewSummary,
    Rows,
    Split,
)
from dashboard.knowledge import Found, Graph
from dashboard.schemas import (
    Artifact,
    BlindPair,
    Change,
    ChatDelta,
    Choice,
    Deployment,
    Job,
    LabelSummary,
    Live,
    Log,
    Message,
    Metrics,
    NewUser,
    Pipeline,
    Sampling,
    System,
    Token,
    Usage,
    User,
)
from trainer.spec import Recipe

Shape = TypeVar("Shape")
TIMEOUT = httpx.Timeout(30.0, connect=5.0)
PREVIEW_BYTES = 200_000
# These start a process that loads the trainer's code first.
INSPECT_TIMEOUT = httpx.Timeout(90.0, connect=5.0)


class ClientError(Exception):
    """A request that did not work, as a sentence for people. `status` is None when nobody answered."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """Which rows: with a value that contains `search`, and with these values of fields."""

    search: str = ""
    where: tuple[tuple[str, str], ...] = ()


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


class Client:
    """Everything a page may ask for, as the user of one API key."""

    def __init__(self, backend_url: str, serving_url: str, key: str) -> None:
        self.key = key
        self.backend = Service("backend", backend_url, key)
        self.serving = Service("serving endpoint", serving_url, key)

    # -- people ------------------------------------------------------------------------------------------------------

    def me(self) -> User:
        return self.backend.ask(User, "GET", "/me")

    def users(self) -> list[User]:
        return self.backend.ask(list[User], "GET", "/users")

    def create_user(self, name: str, role: str) -> NewUser:
        return self.backend.ask(NewUser, "POST", "/users", json={"name": name, "role": role})

    # -- pipelines and jobs ------------------------------------------------------------------------------------------

    def recipes(self) -> list[str]:
        return self.backend.ask(list[str], "GET", "/recipes")

    def recipe(self, name: str) -> Recipe:
        return self.backend.ask(Recipe, "GET", f"/recipes/{name}")

    def start_pipeline(self, recipe: str, overrides: Mapping[str, Mapping[str, Any]], reuse: bool) -> Pipeline:
        body = {"recipe": recipe, "overrides": overrides, "reuse": reuse}
        return self.backend.ask(Pipeline, "POST", "/pipelines", json=body)

    def pipelines(self) -> list[Pipeline]:
        return self.backend.ask(list[Pipeline], "GET", "/pipelines")

    def pipeline(self, id: str) -> Pipeline:
        return self.backend.ask(Pipeline, "GET", f"/pipelines/{id}")

    def cancel_pipeline(self, id: str) -> None:
        self.backend.request("POST", f"/pipelines/{id}/cancel")

    def jobs(self) -> list[Job]:
        return self.backend.ask(list[Job], "GET", "/jobs")

    def job(self, id: str) -> Job:
        return self.backend.ask(Job, "GET", f"/jobs/{id}")

    def cancel_job(self, id: str) -> None:
        self.backend.request("POST", f"/jobs/{id}/cancel")

    def retry_job(self, id: str) -> None:
        self.backend.request("POST", f"/jobs/{id}/retry")

    def metrics(self, id: str, since: int) -> Metrics:
        return self.backend.ask(Metrics, "GET", f"/jobs/{id}/metrics", params={"since": since})

    def log(self, id: str, offset: int) -> Log:
        return self.backend.ask(Log, "GET", f"/jobs/{id}/log", params={"offset": offset})

    def result(self, id: str) -> dict[str, Any]:
        return self.backend.ask(dict[str, Any], "GET", f"/jobs/{id}/result")

    def artifacts(self, id: str) -> list[Artifact]:
        return self.backend.ask(list[Artifact], "GET", f"/jobs/{id}/artifacts")

    def artifact(self, id: str, path: str) -> bytes:
        return self.backend.request("GET", f"/jobs/{id}/artifacts/{path}").content

    # -- data --------------------------------------------------------------------------------------------------------

    def rows(self, owner: str, artifact: str, asked: Asked, offset: int, limit: int) -> Rows:
        """Rows that were asked for from number `offset` on; `owner` is 'jobs/<id>' or 'datasets/<id>'."""
        query = {"artifact": artifact, "offset": offset, "limit": limit, "search": asked.search}
        where = [f"{name}:{value}" for name, value in asked.where]
        return self.backend.ask(Rows, "GET", f"/{owner}/rows", params=query | {"where": where})

    def datasets(self) -> list[Dataset]:
        return self.backend.ask(list[Dataset], "GET", "/datasets")

    def freeze_reviewed(self, job: str, include: str) -> Dataset:
        return self.backend.ask(Dataset, "POST", "/datasets/reviewed", json={"job": job, "include": include})

    def lineage(self, id: str) -> Lineage:
        return self.backend.ask(Lineage, "GET", f"/lineage/{id}")

    def inspect(self, id: str, source: str, split: str, row: int, training: str | None) -> PackedRow:
        """A packed row of a tokenize job, and the steps of a training run that drew it."""
        query = {"source": source, "split": split, "row": row} | ({"training": training} if training else {})
        return self.backend.ask(PackedRow, "GET", f"/jobs/{id}/inspect", params=query, timeout=INSPECT_TIMEOUT)

    # -- knowledge ---------------------------------------------------------------------------------------------------

    def search(self, id: str, query: str, k: int) -> Found:
        """Passages of a knowledge job's store."""
        return self.backend.ask(Found, "GET", f"/jobs/{id}/search", params={"query": query, "k": k})

    def graph(self, id: str, entity: str, depth: int, to: str) -> Graph:
        """Triples around an entity, or on the way to another."""
        query: dict[str, str | int | None] = {"entity": entity, "depth": depth, "to": to or None}
        asked = {name: value for name, value in query.items() if value is not None}
        return self.backend.ask(Graph, "GET", f"/jobs/{id}/graph", params=asked)

    # -- reviews -----------------------------------------------------------------------------------------------------

    def review_queues(self) -> list[ReviewQueue]:
        return self.backend.ask(list[ReviewQueue], "GET", "/reviews/queues")

    def next_review(self, job: str, split: Split) -> ReviewItem | None:
        """A problem for this user to decide on; None when there is none."""
        response = self.backend.request("GET", "/reviews/next", params={"job": job, "split": split})
        return None if response.status_code == 204 else ReviewItem.model_validate_json(response.content)

    def review(self, item: ReviewItem, decision: Decision, seconds: float, **fields: Any) -> None:
        """`fields`: the reason of a reject, the problem of an edit (which takes the check a moment)."""
        body = {"job": item.job, "split": item.split, "number": item.number, "decision": decision, "seconds": seconds}
        self.backend.request("POST", "/reviews", json=body | fields, timeout=INSPECT_TIMEOUT)

    def undo_review(self, job: str, split: Split) -> ReviewItem:
        return self.backend.ask(ReviewItem, "POST", "/reviews/undo", json={"job": job, "split": split})

    def review_summary(self, job: str) -> ReviewSummary:
        return self.backend.ask(ReviewSummary, "GET", "/reviews/summary", params={"job": job})

    # -- preferences -------------------------------------------------------------------------------------------------

    def next_pair(self) -> BlindPair | None:
        """A pair this user has not judged; None when there is none."""
        response = self.backend.request("GET", "/pairs/next")
        return None if response.status_code == 204 else BlindPair.model_validate_json(response.content)

    def label(self, pair: BlindPair, choice: Choice, seconds: float, note: str) -> None:
        body = {"pair": pair.id, "position": pair.position, "choice": choice, "seconds": seconds, "note": note}
        self.backend.request("POST", "/labels", json=body)

    def label_summary(self) -> LabelSummary:
        return self.backend.ask(LabelSummary, "GET", "/labels/summary")

    def pairs_from_job(self, job: str, limit: int) -> None:
        self.backend.request("POST", "/pairs/from-job", json={"job": job, "limit": limit})

    def save_pair(self, prompt: Sequence[Message], a: str, b: str, origin: str) -> None:
        body = {"prompt": role_and_content(prompt), "a": a, "b": b, "origin": origin}
        self.backend.request("POST", "/pairs", json=body)

    # -- the platform ------------------------------------------------------------------------------------------------

    def deployments(self) -> list[Deployment]:
        return self.backend.ask(list[Deployment], "GET", "/deployments")

    def deploy(self, model_name: str, job: str, share: float) -> Deployment:
        """Answer with the export of a job, of that share of the requests."""
        body = {"model_name": model_name, "job": job, "share": share}
        return self.backend.ask(Deployment, "POST", "/deployments", json=body)

    def roll_back(self, model_name: str) -> Deployment:
        return self.backend.ask(Deployment, "POST", f"/deployments/{model_name}/rollback")

    def remove_deployment(self, model_name: str) -> None:
        self.backend.request("DELETE", f"/deployments/{model_name}")

    def deployment_history(self, model_name: str) -> list[Change]:
        """Newest first."""
        return self.backend.ask(list[Change], "GET", f"/deployments/{model_name}/history")

    def live(self) -> Live:
        return self.backend.ask(Live, "GET", "/deployments/live")

    def system(self) -> System:
        return self.backend.ask(System, "GET", "/system")

    def usage(self) -> list[Usage]:
        return self.backend.ask(list[Usage], "GET", "/usage")

    # -- serving -----------------------------------------------------------------------------------------------------

    def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, others: int | None = None
    ) -> Generator[ChatDelta]:
        """Stream an answer; closing the iterator stops the generation. With `others`, each token comes with its
        probability and so many of the likeliest."""
        body = chat_body(model, messages, sampling) | {"stream": True, "stream_options": {"include_usage": True}}
        if others is not None:
            body |= {"logprobs": True, "top_logprobs": others}
        with closing(self.serving.stream("/v1/chat/completions", body)) as events:
            for data in events:
                if data == "[DONE]":
                    return
                yield parse_delta(data)

    def complete(self, model: str, messages: Sequence[Message], sampling: Sampling) -> str:
        """One whole answer."""
        body = chat_body(model, messages, sampling)
        answer: ChatAnswer = self.serving.ask(ChatAnswer, "POST", "/v1/chat/completions", json=body)
        return answer.choices[0].message.content


class ChatChoice(BaseModel):
    message: Message


class ChatAnswer(BaseModel):
    choices: tuple[ChatChoice, ...]


def role_and_content(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as both services take them, without what the dashboard keeps beside them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def chat_body(model: str, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    """The body of /v1/chat/completions, without streaming."""
    return {"model": model, "messages": role_and_content(messages)} | sampling.model_dump(exclude_none=True)


def parse_delta(data: str) -> ChatDelta:
    """One event of a streamed chat completion.

    Raises:
        ClientError: the event is an error that serving met while answering.
    """
    event = json.loads(data)
    if "error" in event:
        raise ClientError(str(event["error"]["message"]))
    choice = (event.get("choices") or [{}])[0]
    return ChatDelta(
        text=choice.get("delta", {}).get("content") or "",
        tokens=tuple(parse_token(item) for item in (choice.get("logprobs") or {}).get("content") or ()),
        version=event.get("system_fingerprint"),
        finish_reason=choice.get("finish_reason"),
        usage=event.get("usage"),
    )


def parse_token(item: Mapping[str, Any]) -> Token:
    """One entry of a chat completion's logprobs."""
    others = tuple((other["token"], math.exp(other["logprob"])) for other in item["top_logprobs"])
    return Token(text=item["token"], probability=math.exp(item["logprob"]), others=others)

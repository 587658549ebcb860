"""What pages ask for: the backend's routes, and serving's public endpoint."""

import json
import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import IO, Any

from pydantic import BaseModel

from dashboard.data_client import Asked as Asked
from dashboard.data_client import DataClient
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
    Raters,
    Sampling,
    System,
    Token,
    Upload,
    Usage,
    User,
)
from dashboard.service import ClientError as ClientError
from dashboard.service import Service
from trainer.spec import Recipe

PREVIEW_BYTES = 200_000
UPLOAD_PART_BYTES = 8 * 2**20


class Client(DataClient):
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

    # -- uploads -----------------------------------------------------------------------------------------------------

    def uploads(self) -> list[Upload]:
        """Newest first."""
        return self.backend.ask(list[Upload], "GET", "/uploads")

    def upload(self, name: str, size: int, file: IO[bytes]) -> Generator[Upload]:
        """Send a file of so many bytes, a part at a time; yields how far it has come after each.

        What breaks off is whole up to there: `resume_upload` goes on with it.
        """
        created: Upload = self.backend.ask(Upload, "POST", "/uploads", json={"name": name, "bytes": size})
        yield from self.resume_upload(created, file)

    def resume_upload(self, upload: Upload, file: IO[bytes]) -> Generator[Upload]:
        """Send what is missing of an upload from the file it is of."""
        file.seek(upload.received)
        while not upload.whole:
            part = file.read(UPLOAD_PART_BYTES)
            if not part:
                raise ClientError(f"The file ends before the {upload.bytes} bytes that '{upload.name}' has.")
            path = f"/uploads/{upload.id}"
            upload = self.backend.ask(Upload, "PUT", path, params={"offset": upload.received}, content=part)
            yield upload

    def delete_upload(self, id: str) -> None:
        self.backend.request("DELETE", f"/uploads/{id}")

    # -- knowledge ---------------------------------------------------------------------------------------------------

    def search(self, id: str, query: str, k: int) -> Found:
        """Passages of a knowledge job's store."""
        return self.backend.ask(Found, "GET", f"/jobs/{id}/search", params={"query": query, "k": k})

    def graph(self, id: str, entity: str, depth: int, to: str) -> Graph:
        """Triples around an entity, or on the way to another."""
        query: dict[str, str | int | None] = {"entity": entity, "depth": depth, "to": to or None}
        asked = {name: value for name, value in query.items() if value is not None}
        return self.backend.ask(Graph, "GET", f"/jobs/{id}/graph", params=asked)

    # -- preferences -------------------------------------------------------------------------------------------------

    def next_pair(self) -> BlindPair | None:
        """A pair this user has not judged; None when there is none."""
        response = self.backend.request("GET", "/pairs/next")
        return None if response.status_code == 204 else BlindPair.model_validate_json(response.content)

    def label(self, pair: BlindPair, choice: Choice, seconds: float, note: str, reasons: Sequence[str]) -> None:
        body = {"pair": pair.id, "position": pair.position, "choice": choice, "seconds": seconds, "note": note}
        self.backend.request("POST", "/labels", json=body | {"reasons": list(reasons)})

    def undo_label(self) -> BlindPair | None:
        """The pair of this user's newest label, which is taken back; None when there is none."""
        response = self.backend.request("POST", "/labels/undo")
        return None if response.status_code == 204 else BlindPair.model_validate_json(response.content)

    def raters(self) -> Raters:
        return self.backend.ask(Raters, "GET", "/raters")

    def label_summary(self) -> LabelSummary:
        return self.backend.ask(LabelSummary, "GET", "/labels/summary")

    def pairs_from_job(self, job: str, limit: int, order: str) -> None:
        self.backend.request("POST", "/pairs/from-job", json={"job": job, "limit": limit, "order": order})

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

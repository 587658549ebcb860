"""A small HTTP server that answers in the shapes of docs/architecture.md, with state that actions change."""

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from tests.dashboard.contract_data import CLEANED, ROWS, SYNTHESIZED, TOKENIZED, data, found_rows, reviews
from tests.dashboard.contract_knowledge import RESULT as KNOWN
from tests.dashboard.contract_knowledge import knowledge

KEY = "octavo-test-key"
NOW = time.time()
OPTIMIZER = {"lr": 3e-3}
MODEL = {
    "vocab_size": 512,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 256,
}
RECIPE: dict[str, Any] = {
    "name": "nano",
    "description": "From nothing to a model that does arithmetic, in minutes.",
    "jobs": [
        {"name": "clean", "kind": "clean"},
        {"name": "synthesize", "kind": "synthesize"},
        {
            "name": "tokenize",
            "kind": "tokenize",
            "inputs": {"documents": "clean", "problems": "synthesize"},
            "vocab_size": 512,
        },
        {
            "name": "sft",
            "kind": "sft",
            "inputs": {"dataset": "tokenize"},
            "steps": 400,
            "optimizer": OPTIMIZER,
            "model": MODEL,
        },
        {
            "name": "evaluate-sft",
            "kind": "evaluate",
            "inputs": {"checkpoint": "sft", "problems": "synthesize", "dataset": "tokenize"},
        },
        {
            "name": "reward",
            "kind": "reward",
            "inputs": {"checkpoint": "sft", "problems": "synthesize"},
            "steps": 60,
            "optimizer": OPTIMIZER,
        },
        {
            "name": "rlhf",
            "kind": "rlhf",
            "inputs": {"checkpoint": "sft", "problems": "synthesize"},
            "steps": 120,
            "optimizer": OPTIMIZER,
        },
    ],
}
UPCYCLE: dict[str, Any] = {
    "name": "upcycle",
    "jobs": [{"name": "import", "kind": "import", "source": "pretrained"}, *RECIPE["jobs"]],
}
RECIPES = {"nano": RECIPE, "upcycle": UPCYCLE}
RESULTS: dict[str, dict[str, Any]] = {
    "know": KNOWN,
    "sft": {
        "train_seconds": 97.2,
        "steps": 400,
        "findings": [
            {
                "kind": "dead",
                "layer": 1,
                "expert": 3,
                "sentence": "expert 3 of layer 1 is dead: at most 0.2 % of the choices",
                "remedy": "start it again as a copy of the busiest",
            }
        ],
    },
    "clean": CLEANED,
    "synthesize": SYNTHESIZED,
    "tokenize": TOKENIZED,
    "evaluate-sft": {
        "shows_work": 0.5,
        "expert_load": [[0.2, 0.8], [0.5, 0.5]],
        "exact_match": 0.41,
        "exact_match_interval": [0.367, 0.454],
        "n": 500,
        "perplexity": {"text": 7.31, "dialogue": 1.42},
        "by_family": {"addition": {"n": 60, "exact_match": 0.6}, "perimeter": {"n": 60, "exact_match": 0.2}},
        "baseline_difference": None,
    },
}
STATES = {
    "clean": "succeeded",
    "synthesize": "succeeded",
    "tokenize": "succeeded",
    "sft": "succeeded",
    "evaluate-sft": "succeeded",
    "reward": "succeeded",
    "rlhf": "running",
}
ARTIFACTS: dict[str, dict[str, str]] = {
    "clean": {
        "documents/part-0.jsonl": '{"id": "d1", "text": "About tensors."}\n{"id": "d2", "text": "Another one."}\n'
    },
    "rlhf": {
        "rollouts.jsonl": json.dumps(
            {
                "step": 10,
                "prompt": "What is 7 + 5?",
                "completion": "<think>7 + 5 = 12, write 2 carry 1.</think>The answer is 12.",
                "reward": 0.81,
                "advantage": 1.2,
                "correctness": 1.0,
                "coherence": 0.5,
            }
        )
        + "\n"
    },
}
RATER = {
    "user": "u2",
    "name": "Ben",
    "labels": 28,
    "skipped": 2,
    "left": 28,
    "right": 0,
    "left_p": 7e-9,
    "median_seconds": 3.25,
    "repeats": 4,
    "consistent": 0.5,
    "swapped": 2,
    "same_side": 1.0,
    "kappa": {"Ada": 0.02},
    "alarms": ["chose the left answer 28 of 28 times, whatever stood there"],
}
PAIRS = [
    {
        "id": "p1",
        "prompt": [{"role": "user", "content": "What is 17 + 26?"}],
        "position": "ab",
        "left": "<think>7 + 6 = 13, write 3 carry 1. 1 + 2 + 1 = 4.</think>The answer is 43.",
        "right": "The answer is 33.",
    },
    {
        "id": "p2",
        "prompt": [{"role": "user", "content": "A rectangle is 3 by 4. What is its perimeter?"}],
        "position": "ba",
        "left": "The answer is 12.",
        "right": "The answer is 14.",
    },
]


def job_body(spec: dict[str, Any], pipeline: str, state: str) -> dict[str, Any]:
    steps, done = spec.get("steps", 0), state == "succeeded"
    started = NOW - 300 if state not in ("waiting", "queued") else None
    return {
        "id": f"{pipeline}-{spec['name']}",
        "name": spec["name"],
        "kind": spec["kind"],
        "pipeline": pipeline,
        "state": state,
        "attempt": 1,
        "step": steps if done else steps // 3,
        "total_steps": steps,
        "message": "",
        "error": None,
        "created": NOW - 900,
        "started": started,
        "finished": NOW - 120 if done else None,
        "reused_from": "an-earlier-clean" if spec["name"] == "clean" else None,
        "spec": spec,
        "inputs": {role: f"{pipeline}-{source}" for role, source in spec.get("inputs", {}).items()},
        "seconds_left": 95.0 if state == "running" else None,
        "run_folder": f"runs/{pipeline}-{spec['name']}",
    }


def version(job: str, weight: float, share: float, state: str, error: str | None = None) -> dict[str, Any]:
    served = {
        "max_difference": 0.04,
        "choice_agreement": 1.0,
        "mean_kl": 2.1e-5,
        "top1_agreement": 0.992,
        "positions": 120,
        "excused": 0,
        "unused_experts": 3,
    }
    gate = {"dtype": "bfloat16", "float32_difference": 2e-6, "served": served} if state == "ready" else None
    return {
        "job": job,
        "export": f"runs/{job}/artifacts/export",
        "weight": weight,
        "share": share,
        "state": state,
        "error": error,
        "gate": gate,
    }


def deployment(name: str, state: str, *versions: dict[str, Any], **rollback: float) -> dict[str, Any]:
    return {
        "model_name": name,
        "since": NOW - 600,
        "state": state,
        "error": next((item["error"] for item in versions if item["error"]), None),
        "answers": any(item["share"] for item in versions),
        "versions": list(versions),
        "rollback": rollback,
    }


def deployed_at_first() -> list[dict[str, Any]]:
    """One name that two versions share, one whose only version was refused."""
    shared = [version("pipe1-export", 0.75, 0.75, "ready"), version("pipe1-export-rl", 0.25, 0.25, "ready")]
    refused = version("old", 1.0, 0.0, "failed", "the parity check found a difference of 0.3")
    return [
        deployment("octavo-nano", "ready", *shared, **{"pipe1-export": 1.0}),
        deployment("octavo-old", "failed", refused),
    ]


LIVE = [
    {
        "model_name": "octavo-nano",
        "version": "pipe1-export",
        "requests": 40,
        "failed": 1,
        "prompt_tokens": 900,
        "completion_tokens": 3100,
        "running": 2,
        "waiting": 0,
        "first_token": {"bounds": [0.01, 0.1, 1.0, None], "counts": [0, 40, 0, 0]},
        "inter_token": {"bounds": [], "counts": []},
    }
]


class Platform:
    """What the server knows. Tests read `labels`, `pairs_saved`, `started` … to see what was asked of it."""

    def __init__(self) -> None:
        self.jobs = {
            job["id"]: job for job in (job_body(spec, "pipe1", STATES[spec["name"]]) for spec in RECIPE["jobs"])
        }
        self.pipelines: dict[str, dict[str, Any]] = {
            "pipe1": {"id": "pipe1", "name": "nano", "state": "running", "created": NOW - 900}
        }
        self.pairs = list(PAIRS)
        self.labels: list[dict[str, Any]] = []
        self.pairs_saved: list[dict[str, Any]] = []
        self.imports: list[dict[str, Any]] = []
        self.started: list[dict[str, Any]] = []
        self.chats: list[dict[str, Any]] = []
        self.metric_requests: list[int] = []
        self.no_record = False
        self.inspected: list[dict[str, Any]] = []
        self.datasets: list[dict[str, Any]] = []
        self.walked: list[tuple[str, int, str | None]] = []
        self.frozen: list[dict[str, Any]] = []
        self.to_review: int | None = 0
        self.reviewed: list[dict[str, Any]] = []
        self.users = [{"id": "u1", "name": "admin", "role": "admin"}]
        self.role = "admin"
        exports = (job_body({"name": name, "kind": "export"}, "pipe1", "succeeded") for name in ("export", "export-rl"))
        self.jobs |= {job["id"]: job for job in exports}
        self.deployments = {item["model_name"]: item for item in deployed_at_first()}
        self.deployed: list[dict[str, Any]] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        self.metric_steps = 40
        self.slow_tokens = False
        self.silent_after: int | None = None  # chats after so many end without a token
        self.stream_closed = threading.Event()

    def pipeline(self, id: str) -> dict[str, Any]:
        return self.pipelines[id] | {"jobs": [job for job in self.jobs.values() if job["pipeline"] == id]}

    def metrics(self, since: int) -> dict[str, Any]:
        """Page after page of at most 25 rows, as a long run would come."""
        self.metric_requests.append(since)
        rows = [self.metric_row(step) for step in range(since + 1, min(since + 25, self.metric_steps) + 1)]
        return {"rows": rows, "next": rows[-1]["seq"] if rows else since}

    def metric_row(self, step: int) -> dict[str, Any]:
        share = step / 40
        values = {
            "loss": 2.2 * math.exp(-2 * share) + 0.3,
            "lr": 2e-4 * min(1, 2 - 2 * share),
            "tokens_per_second": 14_000 + 900 * math.sin(step),
            "reward/correctness": 0.4 + 0.3 * share,
            "reward/coherence": 0.5,
            "reward/diversity": 0.3 + 0.01 * math.cos(step),
            "reward/safety": 1.0,
            "exact_match": 0.4 + 0.25 * share,
            "kl": None,
        }
        load = {
            f"load/layer{layer}/expert{expert}": 0.125 + 0.02 * math.sin(step / 5 + expert)
            for layer in (0, 1)
            for expert in range(8)
        }
        return {"seq": step, "step": step, "time": NOW + step, "values": values | load}


def failure(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": "refused", "message": message}}, status_code=status)


class Refused(Exception):
    """An answer in the platform's error shape."""


def build(platform: Platform) -> FastAPI:
    async def guard(request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "This key is not known; ask an administrator for another one.")
        if request.url.path in platform.refuse:
            raise Refused(*platform.refuse[request.url.path])

    app = FastAPI(dependencies=[Depends(guard)])
    app.exception_handler(Refused)(lambda request, error: failure(*error.args))
    people_and_pipelines(app, platform)
    data(app, platform)
    knowledge(app, platform)
    reviews(app, platform)
    jobs(app, platform)
    preferences(app, platform)
    deployments(app, platform)
    serving(app, platform)
    return app


def people_and_pipelines(app: FastAPI, platform: Platform) -> None:
    app.get("/me")(lambda: {"id": "u1", "name": "Ada", "role": platform.role})
    app.get("/users")(lambda: platform.users)
    app.get("/recipes")(lambda: list(RECIPES))
    app.get("/recipes/{name}")(lambda name: RECIPES[name])
    app.get("/pipelines")(lambda: [platform.pipeline(id) for id in platform.pipelines])
    app.get("/usage")(
        lambda: [{"key": "admin", "model": "octavo-nano", "requests": 3, "prompt_tokens": 31, "completion_tokens": 120}]
    )

    @app.get("/system")
    def system() -> dict[str, Any]:
        worker = {"id": "w1", "host": "node", "device": "cpu", "started": NOW, "seen": NOW, "alive": True, "job": None}
        return {
            "version": "0.1.0",
            "device": {"kind": "cpu", "name": "A processor", "cores": 2},
            "cpu_percent": 37.5,
            "memory": {"total": 24_000_000_000, "used": 9_500_000_000},
            "disk": {"total": 100_000_000_000, "used": 40_000_000_000},
            "workers": [worker],
            "queue": {"waiting": 0, "queued": 1, "running": 1, "messages": 1},
        }

    @app.post("/users", status_code=201)
    def create_user(body: dict[str, Any]) -> dict[str, Any]:
        user = {"id": "u2", **body}
        platform.users.append(user)
        return user | {"key": "a-new-key"}

    @app.post("/pipelines", status_code=201)
    def create(body: dict[str, Any]) -> dict[str, Any]:
        platform.started.append(body)
        platform.pipelines["pipe2"] = {"id": "pipe2", "name": body["recipe"], "state": "running", "created": NOW}
        platform.jobs |= {f"pipe2-{spec['name']}": job_body(spec, "pipe2", "waiting") for spec in RECIPE["jobs"]}
        return platform.pipeline("pipe2")

    @app.get("/pipelines/{id}", response_model=None)
    def get_pipeline(id: str) -> dict[str, Any] | Response:
        return platform.pipeline(id) if id in platform.pipelines else failure(404, f"There is no pipeline '{id}'.")

    @app.post("/pipelines/{id}/cancel")
    def cancel(id: str) -> dict[str, Any]:
        for job in platform.pipeline(id)["jobs"]:
            if job["state"] in ("waiting", "queued", "running"):
                job["state"] = "cancelled"
        platform.pipelines[id]["state"] = "cancelled"
        return platform.pipeline(id)


def jobs(app: FastAPI, platform: Platform) -> None:
    app.get("/jobs")(lambda: list(platform.jobs.values()))
    app.get("/jobs/{id}/metrics")(lambda id, since=0: platform.metrics(int(since)))
    app.get("/jobs/{id}/log")(lambda id, offset=0: log_page(int(offset)))

    @app.get("/jobs/{id}", response_model=None)
    def get_job(id: str) -> dict[str, Any] | Response:
        return (
            platform.jobs[id]
            if id in platform.jobs
            else failure(404, f"There is no job '{id}'; look at the list of runs.")
        )

    @app.post("/jobs/{id}/{action}")
    def act(id: str, action: str) -> dict[str, Any]:
        platform.jobs[id]["state"] = {"cancel": "cancelled", "retry": "queued"}[action]
        return dict(platform.jobs[id])

    @app.get("/jobs/{id}/result")
    def result(id: str) -> dict[str, Any]:
        return RESULTS.get(platform.jobs[id]["name"], {"train_seconds": 97.2, "steps": 400})

    @app.get("/jobs/{id}/artifacts")
    def artifacts(id: str) -> list[dict[str, Any]]:
        return [
            {"path": path, "bytes": len(text)} for path, text in ARTIFACTS.get(platform.jobs[id]["name"], {}).items()
        ]

    @app.get("/jobs/{id}/artifacts/{path:path}")
    def artifact(id: str, path: str) -> Response:
        return PlainTextResponse(ARTIFACTS[platform.jobs[id]["name"]][path])

    @app.get("/jobs/{id}/rows")
    def rows(id: str, artifact: str, offset: int, limit: int, search: str = "", where: list[str] = Query([])) -> Any:
        kept = ARTIFACTS.get(platform.jobs[id]["name"], {}).get(artifact)
        found = ROWS[artifact] if kept is None else [json.loads(line) for line in kept.splitlines()]
        return found_rows(found, offset, limit, search, where)


def log_page(offset: int) -> dict[str, Any]:
    text = "training 1,803,264 parameters in bfloat16\nstep 40 loss 0.512\n"
    start = max(len(text) + offset, 0) if offset < 0 else offset
    return {"text": text[start:], "next": len(text)}


def preferences(app: FastAPI, platform: Platform) -> None:
    @app.get("/pairs/next", response_model=None)
    def next_pair() -> dict[str, Any] | Response:
        return platform.pairs[0] | {"remaining": len(platform.pairs)} if platform.pairs else Response(status_code=204)

    @app.post("/labels", status_code=201)
    def label(body: dict[str, Any]) -> dict[str, Any]:
        platform.labels.append(body)
        platform.pairs = [pair for pair in platform.pairs if pair["id"] != body["pair"]]
        return body

    @app.get("/labels/summary")
    def summary() -> dict[str, Any]:
        done = len(platform.labels)
        return {
            "pairs": len(PAIRS),
            "labelled": done,
            "remaining": len(platform.pairs),
            "mine": done,
            "left_share": None,
        }

    @app.post("/labels/undo", response_model=None)
    def undo() -> dict[str, Any] | Response:
        if not platform.labels:
            return Response(status_code=204)
        taken_back = platform.labels.pop()["pair"]
        [pair] = [pair for pair in PAIRS if pair["id"] == taken_back]
        platform.pairs.insert(0, pair)
        return pair | {"remaining": len(platform.pairs)}

    @app.get("/raters")
    def raters() -> dict[str, Any]:
        return {"raters": [RATER], "shared_pairs": 12, "contradicted": 1, "alpha": 0.71}

    @app.post("/pairs/from-job")
    def from_job(body: dict[str, Any]) -> dict[str, Any]:
        platform.imports.append(body)
        return {"added": body["limit"]}

    @app.post("/pairs", status_code=201)
    def save(body: dict[str, Any]) -> dict[str, Any]:
        platform.pairs_saved.append(body)
        return {"id": "p9"} | body


def serving(app: FastAPI, platform: Platform) -> None:
    @app.post("/v1/chat/completions", response_model=None)
    async def chat(body: dict[str, Any]) -> dict[str, Any] | Response:
        platform.chats.append(body)
        if not body.get("stream"):
            said = {"role": "assistant", "content": f"The answer is {40 + len(platform.chats)}."}
            return {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
        return StreamingResponse(events(platform, bool(body.get("logprobs"))), media_type="text/event-stream")


def deployments(app: FastAPI, platform: Platform) -> None:
    app.get("/deployments")(lambda: list(platform.deployments.values()))
    app.get("/deployments/live")(lambda: {"time": NOW, "versions": LIVE})

    @app.post("/deployments", status_code=201)
    def deploy(body: dict[str, Any]) -> dict[str, Any]:
        platform.deployed.append(body)
        found = deployment(body["model_name"], "loading", version(body["job"], body["share"], 0.0, "loading"))
        platform.deployments[body["model_name"]] = found
        return found

    @app.post("/deployments/{name}/rollback")
    def roll_back(name: str) -> dict[str, Any]:
        found = platform.deployments[name]
        for item in found["versions"]:
            item["weight"] = item["share"] = found["rollback"].get(item["job"], 0.0)
        found["rollback"] = {}
        return found

    @app.delete("/deployments/{name}", status_code=204)
    def remove(name: str) -> None:
        del platform.deployments[name]

    @app.get("/deployments/{name}/history")
    def history(name: str) -> list[dict[str, Any]]:
        first = {"time": NOW - 7200, "action": "deploy", "user": None, "versions": {"pipe1-export": 1.0}}
        shared = {"pipe1-export": 0.75, "pipe1-export-rl": 0.25}
        split = {"time": NOW - 600, "action": "split", "user": "Ada", "versions": shared}
        return [split, first] if name == "octavo-nano" else [first]


def logprobs_of(piece: str) -> dict[str, Any]:
    likely = [{"token": piece, "logprob": math.log(0.6)}, {"token": "<b>", "logprob": math.log(0.3)}]
    return {"content": [likely[0] | {"top_logprobs": likely}]}


async def events(platform: Platform, logprobs: bool = False) -> AsyncIterator[str]:
    """A streamed answer; when `slow_tokens` is set, it goes on until the reader leaves."""
    try:
        pieces = ["<think>2 + 0 = 2.", " 1 + 3 = 4.</think>", "The answer", " is 42."]
        silent = platform.silent_after is not None and len(platform.chats) > platform.silent_after
        for piece in [] if silent else pieces:
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
            choice |= {"logprobs": logprobs_of(piece)} if logprobs else {}
            yield event({"system_fingerprint": "pipe1-export", "choices": [choice]})
        while platform.slow_tokens:
            await asyncio.sleep(0.02)
            yield event({"choices": [{"index": 0, "delta": {"content": " and on"}, "finish_reason": None}]})
        yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield event({"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 23, "total_tokens": 34}})
        yield "data: [DONE]\n\n"
    finally:
        platform.stream_closed.set()


def event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


@contextmanager
def served(platform: Platform, port: int = 0) -> Iterator[str]:
    """The platform on a port of this machine; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # so that a request made before the server runs waits instead of being refused
        server = uvicorn.Server(uvicorn.Config(build(platform), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()

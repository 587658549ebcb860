"""The inference endpoint: one app of OpenAI's routes and those for operation."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI, Request

from serving import errors, openai_routes, operation_routes
from serving.answering import Serving
from serving.body_limit import BodyLimit
from serving.dependencies import get_serving
from serving.deployments import Deployments
from serving.engine_process import start_engine
from serving.engine_protocol import Served
from serving.logs import ChatLog, UsageLog
from serving.metrics import Metrics
from serving.settings import Settings


def create_app(settings: Settings, load: Callable[[Path], Served] | None = None) -> FastAPI:
    """The app; `load` makes an engine of an export folder (tests bring their own)."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        home = settings.home
        deployments = Deployments(home / "serving.json", load or partial(start_engine, settings=settings))
        home.mkdir(parents=True, exist_ok=True)
        chat_log = ChatLog(home / "chats.jsonl", settings.serving_chats_megabytes * 2**20)
        app.state.serving = Serving(settings, deployments, Metrics(), UsageLog(home / "usage.jsonl"), chat_log)
        deployments.start()
        yield
        await asyncio.to_thread(deployments.close)

    app = FastAPI(title="Octavo serving", lifespan=lifespan)
    app.add_middleware(BodyLimit)
    app.include_router(openai_routes.router)
    app.include_router(operation_routes.router)
    errors.install(app, _count_refusal)
    return app


def _count_refusal(request: Request, status: int) -> None:
    get_serving(request).metrics.refusals.labels(status).inc()

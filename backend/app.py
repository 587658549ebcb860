"""The HTTP API: routes of every feature, one shape of error, a key on every request but /healthz."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from backend import errors
from backend.auth import ADMIN_KEY, current_user, ensure_admin, require_role
from backend.datasets.routes import router as datasets
from backend.deployments.publish import publish
from backend.deployments.routes import router as deployments
from backend.jobs.routes import router as jobs
from backend.lineage.routes import router as lineage
from backend.models.routes import router as models
from backend.pipelines.routes import router as pipelines
from backend.platform import Platform
from backend.preferences.routes import router as preferences
from backend.reaper import BACKEND_DUTIES, Ticker
from backend.reviews.routes import router as reviews
from backend.schema import migrate
from backend.settings import Settings
from backend.system.routes import router as system
from backend.uploads.routes import router as uploads
from backend.users.routes import router as users
from backend.version import version

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """The application; everything it opens is opened at its start and closed at its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        platform = Platform.open(settings)
        migrate(platform.database)
        key = ensure_admin(platform.database, settings)
        if key is not None:
            print(f"created the user 'admin' with the key {key} (kept in {settings.home / ADMIN_KEY})", flush=True)
        publish(platform)
        ticker = Ticker(platform, BACKEND_DUTIES)
        ticker.start()
        app.state.platform = platform
        yield
        ticker.stop()
        platform.close()

    app = FastAPI(title="Octavo", version=version(), lifespan=lifespan)
    errors.install(app)
    app.add_api_route("/healthz", lambda: {"status": "ok", "version": app.version}, methods=["GET"])
    for router in (users, preferences, reviews):
        app.include_router(router, dependencies=[Depends(current_user)])
    member = [Depends(require_role("admin", "member"))]
    for router in (pipelines, jobs, models, datasets, lineage, uploads, deployments, system):
        app.include_router(router, dependencies=member)
    return app

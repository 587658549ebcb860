"""Health, metrics and the state of the deployments."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving.dependencies import KeyDep, ServingDep
from serving.deployments import DeploymentState

router = APIRouter()


@router.get("/healthz")
async def health(serving: ServingDep) -> Response:
    """Whether every engine lives."""
    dead = [name for name, served in serving.deployments.loaded() if not served.engine.is_alive()]
    if dead:
        return JSONResponse({"status": "failed", "error": f"the engine of {', '.join(dead)} has stopped"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readiness(serving: ServingDep) -> Response:
    """Whether at least one model answers; else why not."""
    models, error = sorted(serving.deployments.ready()), serving.deployments.error
    if models:
        return JSONResponse({"status": "ready", "models": models, "error": error})
    waiting = [f"{s.model_name}: {s.error or s.state}" for s in serving.deployments.states()]
    reason = error or "; ".join(waiting) or "nothing is deployed"
    return JSONResponse({"status": "not ready", "models": [], "error": reason}, 503)


@router.get("/metrics")
async def metrics(serving: ServingDep) -> Response:
    stats = {(name, served.version): served.engine.stats() for name, served in serving.deployments.loaded()}
    return Response(serving.metrics.render(stats), media_type=CONTENT_TYPE_LATEST)


@router.get("/deployments")
async def deployments(serving: ServingDep, key: KeyDep) -> list[DeploymentState]:
    return serving.deployments.states()

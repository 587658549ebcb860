"""Exports that serving is told to answer with, and what serving says of them."""

import time
from dataclasses import dataclass

import httpx
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select

from backend.auth import serving_key
from backend.deployments.publish import publish
from backend.deployments.schemas import DeploymentSchema, NewDeployment, ServingReport
from backend.deployments.tables import DeploymentRow
from backend.errors import Invalid, NotFound
from backend.jobs.service import get_job
from backend.platform import Platform
from backend.settings import Settings
from trainer.artifacts import RunFolder

REPORTS: TypeAdapter[list[ServingReport]] = TypeAdapter(list[ServingReport])


def ask_serving(settings: Settings) -> list[ServingReport]:
    """What serving says of its deployments.

    Raises:
        ValueError: it does not answer, or not as agreed.
    """
    url = f"{settings.serving_url}/deployments"
    try:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {serving_key(settings)}"}, timeout=5)
        answer.raise_for_status()
        return REPORTS.validate_json(answer.content)
    except httpx.HTTPStatusError as error:
        raise ValueError(f"serving at {settings.serving_url} answered {error.response.status_code}") from error
    except httpx.HTTPError as error:
        raise ValueError(f"serving does not answer at {settings.serving_url}; is it running?") from error
    except ValidationError as error:
        raise ValueError(f"{url} does not answer like serving; check OCTAVO_SERVING_URL") from error


@dataclass(frozen=True)
class Wanted:
    """What a deployment is to answer with."""

    model_name: str
    job_id: str
    export: str


def export_folder(run_folder: str) -> str:
    """Raises: ValueError: the run left no complete export."""
    return str(RunFolder(run_folder).artifact("export"))


def set_deployment(platform: Platform, wanted: Wanted) -> Wanted | None:
    """Make `wanted` the deployment of its name and tell serving; returns what it was before."""
    with platform.database.write() as session:
        row = session.get(DeploymentRow, wanted.model_name)
        before = Wanted(row.model_name, row.job_id, row.export) if row else None
        row = DeploymentRow(model_name=wanted.model_name, job_id=wanted.job_id, export=wanted.export)
        row.created = time.time()
        session.merge(row)
    publish(platform)
    return before


def create(platform: Platform, new: NewDeployment) -> DeploymentSchema:
    """Raises: NotFound, Invalid: the job does not exist or left no export."""
    job = get_job(platform, new.job)
    try:
        folder = export_folder(job.run_folder)
    except ValueError as error:
        raise Invalid(
            f"job '{job.name}' ({job.kind}, {job.state}) left no export; name an export job that succeeded"
        ) from error
    set_deployment(platform, Wanted(new.model_name, job.id, folder))
    return next(found for found in list_deployments(platform) if found.model_name == new.model_name)


def remove(platform: Platform, model_name: str) -> None:
    """Raises: NotFound."""
    with platform.database.write() as session:
        row = session.get(DeploymentRow, model_name)
        if row is None:
            raise NotFound(f"there is no deployment '{model_name}'; GET /deployments lists them")
        session.delete(row)
    publish(platform)


def list_deployments(platform: Platform) -> list[DeploymentSchema]:
    """Deployments with serving's own word on each; one that serving has not seen yet is loading."""
    with platform.database.read() as session:
        rows = list(session.scalars(select(DeploymentRow).order_by(DeploymentRow.created)))
    if not rows:
        return []
    try:
        reports = {(report.model_name, report.export): report for report in ask_serving(platform.settings)}
        silence = None
    except ValueError as error:
        reports, silence = {}, str(error)
    return [_schema(row, reports.get((row.model_name, row.export)), silence) for row in rows]


def _schema(row: DeploymentRow, report: ServingReport | None, silence: str | None) -> DeploymentSchema:
    state = report.state if report else "unreachable" if silence else "loading"
    return DeploymentSchema(
        model_name=row.model_name, job=row.job_id, export=row.export, created=row.created,
        state=state, error=report.error if report else silence,
    )  # fmt: skip

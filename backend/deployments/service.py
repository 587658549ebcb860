"""Exports that serving is told to answer with, and what serving says of them."""

from collections.abc import Mapping

from backend.deployments import changes
from backend.deployments.changes import Version, Wanted
from backend.deployments.publish import publish
from backend.deployments.schemas import (
    ChangeSchema,
    DeploymentSchema,
    LiveSchema,
    NewDeployment,
    ServingReport,
    ServingState,
    VersionSchema,
)
from backend.deployments.serving_client import ask_serving, read_metrics
from backend.deployments.tables import Action
from backend.errors import Conflict, Invalid, NotFound, Unavailable
from backend.jobs.files import fetched
from backend.jobs.service import get_job
from backend.platform import Platform
from trainer.artifacts import RunFolder

Reports = Mapping[tuple[str, str, str], ServingReport]


def export_folder(run: RunFolder) -> str:
    """Raises: ValueError: the run left no complete export."""
    return str(run.artifact("export"))


def look(platform: Platform, model_name: str) -> Wanted | None:
    with platform.database.read() as session:
        return changes.current(session, model_name)


def require(platform: Platform, model_name: str) -> Wanted:
    """Raises: NotFound."""
    wanted = look(platform, model_name)
    if wanted is None:
        raise NotFound(f"there is no deployment '{model_name}'; GET /deployments lists them")
    return wanted


def change(platform: Platform, wanted: Wanted, action: Action, user: str | None = None) -> None:
    """Make `wanted` what its name is to answer with, and tell serving."""
    with platform.database.write() as session:
        changes.add(session, wanted, action, user)
    publish(platform)


def create(platform: Platform, new: NewDeployment, user: str) -> DeploymentSchema:
    """Raises: NotFound, Invalid: the job does not exist or left no export. Conflict: there is nothing to share with."""
    job = get_job(platform, new.job)
    try:
        version = Version(job.id, export_folder(fetched(platform, job)))
    except ValueError as error:
        raise Invalid(
            f"job '{job.name}' ({job.kind}, {job.state}) left no export; name an export job that succeeded"
        ) from error
    wanted = deploy_version(platform, new.model_name, version, new.share)
    change(platform, wanted, "deploy" if new.share == 1 else "split", user)
    return show(platform, new.model_name)


def deploy_version(platform: Platform, model_name: str, version: Version, share: float = 1.0) -> Wanted:
    """What a name is to answer with once a version has that share of it. A version that serving refused never answered:
    it is no version to share with or to go back to. To deploy again what answers leaves the rollback as it is.

    Raises:
        Conflict: a share below 1, and not exactly one other version answers.
    """
    before = look(platform, model_name)
    refused = before is not None and _refused(before, _reports(platform)[0])
    answering = () if before is None else before.previous if refused else before.versions
    versions = shared(model_name, answering, version, share)
    if versions != answering:
        return Wanted(model_name, versions, answering)
    return Wanted(model_name, versions, () if before is None or refused else before.previous)


def shared(model_name: str, answering: tuple[Version, ...], version: Version, share: float) -> tuple[Version, ...]:
    """The versions with their weights, in the order they came, so that a growing share keeps its conversations."""
    if share == 1:
        return (version,)
    others = [other for other in answering if other.job != version.job]
    if len(others) != 1:
        found = "none does" if not others else f"{len(others)} do"
        raise Conflict(
            f"a share below 1 needs exactly one other version that answers as '{model_name}', and {found}; "
            "deploy one with all requests first"
        )
    weighted = [Version(version.job, version.export, share), Version(others[0].job, others[0].export, 1 - share)]
    order = [other.job for other in answering]
    return tuple(sorted(weighted, key=lambda v: order.index(v.job) if v.job in order else len(order)))


def roll_back(platform: Platform, model_name: str, user: str) -> DeploymentSchema:
    """Exchange what answers with what did before; a second rollback undoes the first.

    Raises:
        NotFound: there is no such deployment. Conflict: nothing answered before.
    """
    wanted = require(platform, model_name)
    if not wanted.previous:
        raise Conflict(f"'{model_name}' has answered with one version only; there is none to go back to")
    refused = _refused(wanted, _reports(platform)[0])
    change(platform, Wanted(model_name, wanted.previous, () if refused else wanted.versions), "rollback", user)
    return show(platform, model_name)


def remove(platform: Platform, model_name: str, user: str | None = None) -> None:
    """Raises: NotFound."""
    require(platform, model_name)
    change(platform, Wanted(model_name, ()), "remove", user)


def list_history(platform: Platform, model_name: str) -> list[ChangeSchema]:
    with platform.database.read() as session:
        rows = changes.history(session, model_name)
    return [
        ChangeSchema(
            time=row.time, action=row.action, user=row.user,
            versions={version["job"]: version["weight"] for version in row.versions},
        )
        for row in rows
    ]  # fmt: skip


def live(platform: Platform) -> LiveSchema:
    """Raises: Unavailable: serving does not answer."""
    try:
        return read_metrics(platform.settings)
    except ValueError as error:
        raise Unavailable(str(error)) from error


def list_deployments(platform: Platform) -> list[DeploymentSchema]:
    """Deployments with serving's own word on each; a version that serving has not seen yet is loading."""
    with platform.database.read() as session:
        found = changes.all_current(session)
    if not found:
        return []
    reports, silence = _reports(platform)
    return [_schema(wanted, reports, silence) for wanted in found]


def show(platform: Platform, model_name: str) -> DeploymentSchema:
    return _schema(require(platform, model_name), *_reports(platform))


def _reports(platform: Platform) -> tuple[Reports, str | None]:
    """What serving says of each (name, version, export), and why it says nothing."""
    try:
        reports = ask_serving(platform.settings)
    except ValueError as error:
        return {}, str(error)
    return {(report.model_name, report.version, report.export): report for report in reports}, None


def _refused(wanted: Wanted, reports: Reports) -> bool:
    keys = [(wanted.model_name, version.job, version.export) for version in wanted.versions]
    return any(key in reports and reports[key].state == "failed" for key in keys)


def _schema(wanted: Wanted, reports: Reports, silence: str | None) -> DeploymentSchema:
    kept = [Version(version.job, version.export, 0.0) for version in wanted.kept]
    versions = [_version(wanted.model_name, version, reports, silence) for version in (*wanted.versions, *kept)]
    asked = [version for version in versions if version.weight]
    states: list[ServingState] = ["unreachable", "failed", "loading", "ready"]
    state = min((version.state for version in asked), key=states.index)
    total = sum(version.weight for version in wanted.previous)
    return DeploymentSchema(
        model_name=wanted.model_name, since=wanted.since, state=state,
        error=next((version.error for version in asked if version.error), None),
        answers=any(version.share for version in versions), versions=versions,
        rollback={version.job: version.weight / total for version in wanted.previous},
    )  # fmt: skip


def _version(model_name: str, version: Version, reports: Reports, silence: str | None) -> VersionSchema:
    report = reports.get((model_name, version.job, version.export))
    state: ServingState = report.state if report else "unreachable" if silence else "loading"
    return VersionSchema(
        job=version.job, export=version.export, weight=version.weight, state=state,
        share=report.share if report else 0.0, error=report.error if report else silence,
        gate=report.gate if report else None,
    )  # fmt: skip

"""The job kind `deploy`: a step of the backend itself, done in the worker's thread."""

import time
from collections.abc import Callable

from backend.deployments.changes import Version, Wanted
from backend.deployments.service import change, deploy_version, export_folder, look
from backend.deployments.serving_client import ask_serving
from backend.platform import Platform
from trainer.artifacts import Run
from trainer.spec import DeploySpec

POLL_SECONDS = 0.5


def deploy(platform: Platform, source_job: str, run: Run, wait: Callable[[float], bool]) -> bool:
    """Tell serving of an export and wait until it answers with it; what was deployed before stays if it does not.

    Args:
        source_job: id of the export job.
        wait: sleeps so many seconds, keeping the lease; true when the job is to stop.

    Returns: whether it was done; false when asked to stop.

    Raises:
        ValueError: serving refused the export, or did not load it in time.
    """
    spec = run.folder.job().spec
    assert isinstance(spec, DeploySpec)
    version = Version(source_job, export_folder(run.input("export")))
    run.log(f"deploying {version.export} as {spec.model_name}")
    before = look(platform, spec.model_name) or Wanted(spec.model_name, ())
    change(platform, deploy_version(platform, spec.model_name, version), "deploy")
    try:
        done = _wait_until_ready(platform, spec.model_name, version, wait)
    except ValueError:
        change(platform, before, "restore")
        raise
    if done:
        run.folder.write_result({"model_name": spec.model_name, "export": version.export})
        run.log("serving answers with it")
    else:
        change(platform, before, "restore")
    return done


def _wait_until_ready(platform: Platform, model_name: str, version: Version, wait: Callable[[float], bool]) -> bool:
    deadline = time.monotonic() + platform.settings.deploy_seconds
    reason = "serving has not seen it yet"
    while time.monotonic() < deadline:
        try:
            reports = ask_serving(platform.settings)
        except ValueError as error:
            reports, reason = [], str(error)
        for report in reports:
            if (report.model_name, report.version, report.export) != (model_name, version.job, version.export):
                continue
            if report.state == "ready":
                return True
            if report.state == "failed":
                raise ValueError(f"serving could not load the export: {report.error}")
            reason = "serving is still loading it"
        if wait(POLL_SECONDS):
            return False
    raise ValueError(f"not deployed within {platform.settings.deploy_seconds:.0f} s: {reason}")

"""The job kind `deploy`: a step of the backend itself, done in the worker's thread."""

import time
from collections.abc import Callable

from backend.deployments.service import Wanted, ask_serving, export_folder, remove, set_deployment
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
    wanted = Wanted(spec.model_name, source_job, export_folder(str(run.input("export").path)))
    run.log(f"deploying {wanted.export} as {wanted.model_name}")
    before = set_deployment(platform, wanted)
    try:
        done = _wait_until_ready(platform, wanted, wait)
    except ValueError:
        _restore(platform, wanted, before)
        raise
    if done:
        run.folder.write_result({"model_name": wanted.model_name, "export": wanted.export})
        run.log("serving answers with it")
    else:
        _restore(platform, wanted, before)
    return done


def _wait_until_ready(platform: Platform, wanted: Wanted, wait: Callable[[float], bool]) -> bool:
    deadline = time.monotonic() + platform.settings.deploy_seconds
    reason = "serving has not seen it yet"
    while time.monotonic() < deadline:
        try:
            reports = ask_serving(platform.settings)
        except ValueError as error:
            reports, reason = [], str(error)
        for report in reports:
            if (report.model_name, report.export) != (wanted.model_name, wanted.export):
                continue
            if report.state == "ready":
                return True
            if report.state == "failed":
                raise ValueError(f"serving could not load the export: {report.error}")
            reason = "serving is still loading it"
        if wait(POLL_SECONDS):
            return False
    raise ValueError(f"not deployed within {platform.settings.deploy_seconds:.0f} s: {reason}")


def _restore(platform: Platform, wanted: Wanted, before: Wanted | None) -> None:
    if before is None:
        remove(platform, wanted.model_name)
    else:
        set_deployment(platform, before)

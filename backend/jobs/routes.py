from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi.responses import FileResponse, JSONResponse

from backend.auth import PlatformDep
from backend.errors import NotFound, Unavailable
from backend.jobs import files, metrics, service
from backend.jobs.schemas import ArtifactSchema, JobSchema, LogSchema, RowsSchema
from backend.jobs.tables import JobRow, JobState
from backend.platform import Platform
from backend.store import StoreError
from trainer.artifacts import RunFolder

router = APIRouter(prefix="/jobs", tags=["jobs"])


def _run(platform: Platform, row: JobRow) -> RunFolder:
    """The run folder, fetched from the store where another machine ran the job."""
    if row.state == "succeeded":
        try:
            platform.store.fetch(Path(row.run_folder))
        except StoreError as error:
            raise Unavailable(str(error)) from error
    return RunFolder(row.run_folder)


@router.post("", status_code=201)
def submit(platform: PlatformDep, body: Annotated[dict[str, Any], Body()]) -> JobSchema:
    """Submit one job spec; its inputs are `run:<job id>`."""
    [row] = service.submit(platform, [service.parse_spec(body)], pipeline=None, reuse=False)
    return JobSchema.of(row)


@router.get("")
def list_jobs(platform: PlatformDep, pipeline: str | None = None, state: JobState | None = None) -> list[JobSchema]:
    return [JobSchema.of(row) for row in service.find_jobs(platform, pipeline=pipeline, state=state)]


@router.get("/{job_id}")
def get_job(platform: PlatformDep, job_id: str) -> JobSchema:
    return JobSchema.of(service.get_job(platform, job_id))


@router.post("/{job_id}/cancel")
def cancel(platform: PlatformDep, job_id: str) -> JobSchema:
    """Stop a job; a running one saves first, so its state changes a little later. One that has ended stays so."""
    service.cancel(platform, [service.get_job(platform, job_id).id])
    return JobSchema.of(service.get_job(platform, job_id))


@router.post("/{job_id}/retry")
def retry(platform: PlatformDep, job_id: str) -> JobSchema:
    return JobSchema.of(service.retry(platform, job_id))


@router.get("/{job_id}/metrics")
def get_metrics(
    platform: PlatformDep, job_id: str, since: Annotated[int, Query(ge=0)] = 0, names: str = ""
) -> JSONResponse:
    """Numbers since a sequence number, a page at a time: ask again with `next` until `rows` is empty."""
    row = service.get_job(platform, job_id)
    wanted = [name for name in names.split(",") if name]
    with platform.database.read() as session:
        rows, following = metrics.read_page(session, row.reused_from or row.id, since, wanted)
    # The rows are plain numbers from the table: validating them again would cost more than reading them.
    return JSONResponse({"rows": rows, "next": following})


@router.get("/{job_id}/log")
def get_log(platform: PlatformDep, job_id: str, offset: int = 0) -> LogSchema:
    """At most 64 KiB from a byte offset; a negative one counts from the end."""
    text, following = files.read_log(_run(platform, service.get_job(platform, job_id)).log_file, offset)
    return LogSchema(text=text, next=following)


@router.get("/{job_id}/result")
def get_result(platform: PlatformDep, job_id: str) -> dict[str, Any]:
    row = service.get_job(platform, job_id)
    if not (_run(platform, row).artifacts / "result.json").is_file():
        raise NotFound(f"job '{row.name}' has no result yet; it is {row.state}")
    return _run(platform, row).result()


@router.get("/{job_id}/artifacts")
def list_artifacts(platform: PlatformDep, job_id: str) -> list[ArtifactSchema]:
    found = files.list_artifacts(_run(platform, service.get_job(platform, job_id)))
    return [ArtifactSchema(path=file.path, bytes=file.bytes) for file in found]


@router.get("/{job_id}/artifacts/{path:path}")
def get_artifact(platform: PlatformDep, job_id: str, path: str) -> FileResponse:
    return FileResponse(files.find_artifact(_run(platform, service.get_job(platform, job_id)), path))


@router.get("/{job_id}/rows")
def get_rows(
    platform: PlatformDep,
    job_id: str,
    artifact: str,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=files.MAX_ROWS)] = 50,
    search: str = "",
) -> RowsSchema:
    rows, total = files.preview(_run(platform, service.get_job(platform, job_id)), artifact, offset, limit, search)
    return RowsSchema(rows=rows, total=total)

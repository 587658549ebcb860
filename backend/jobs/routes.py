from typing import Annotated, Any

from fastapi import APIRouter, Body, Query
from fastapi.responses import FileResponse, JSONResponse

from backend.auth import PlatformDep
from backend.errors import NotFound
from backend.jobs import files, metrics, service
from backend.jobs.inspecting import InspectQuery, drawn, inspect
from backend.jobs.knowing import GraphQuery, SearchQuery, graph, search
from backend.jobs.schemas import ArtifactSchema, JobSchema, LogSchema, RowsQuery, RowsSchema
from backend.jobs.tables import JobState

router = APIRouter(prefix="/jobs", tags=["jobs"])


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
    text, following = files.read_log(files.fetched(platform, service.get_job(platform, job_id)).log_file, offset)
    return LogSchema(text=text, next=following)


@router.get("/{job_id}/result")
def get_result(platform: PlatformDep, job_id: str) -> dict[str, Any]:
    row = service.get_job(platform, job_id)
    if not (files.fetched(platform, row).artifacts / "result.json").is_file():
        raise NotFound(f"job '{row.name}' has no result yet; it is {row.state}")
    return files.fetched(platform, row).result()


@router.get("/{job_id}/artifacts")
def list_artifacts(platform: PlatformDep, job_id: str) -> list[ArtifactSchema]:
    found = files.list_artifacts(files.fetched(platform, service.get_job(platform, job_id)))
    return [ArtifactSchema(path=file.path, bytes=file.bytes) for file in found]


@router.get("/{job_id}/artifacts/{path:path}")
def get_artifact(platform: PlatformDep, job_id: str, path: str) -> FileResponse:
    return FileResponse(files.find_artifact(files.fetched(platform, service.get_job(platform, job_id)), path))


@router.get("/{job_id}/rows")
def get_rows(platform: PlatformDep, job_id: str, asked: Annotated[RowsQuery, Query()]) -> RowsSchema:
    """Rows of a JSON Lines artifact from number `offset` on; ask again with `next` until it is null."""
    return RowsSchema.of(files.preview(files.fetched(platform, service.get_job(platform, job_id)), asked))


@router.get("/{job_id}/inspect")
def inspect_row(platform: PlatformDep, job_id: str, asked: Annotated[InspectQuery, Query()]) -> Any:
    """One packed row of a tokenize job: its tokens, their documents, and which steps of an sft job drew it."""
    return inspect(platform, job_id, asked)


@router.get("/{job_id}/drawn")
def rows_of_step(platform: PlatformDep, job_id: str, step: Annotated[int, Query(ge=1)]) -> Any:
    """The phase of a step of an sft job, and the rows it drew by source."""
    return drawn(platform, job_id, step)


@router.get("/{job_id}/search")
def search_passages(platform: PlatformDep, job_id: str, asked: Annotated[SearchQuery, Query()]) -> Any:
    """The passages of a knowledge job's store that fit a query best, and entities to walk on from."""
    return search(platform, job_id, asked)


@router.get("/{job_id}/graph")
def show_graph(platform: PlatformDep, job_id: str, asked: Annotated[GraphQuery, Query()]) -> Any:
    """The triples around an entity of a knowledge job's store, or the path from it to another."""
    return graph(platform, job_id, asked)

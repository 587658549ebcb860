"""Submitting, cancelling and retrying jobs."""

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from backend.errors import Conflict, Invalid, NotFound
from backend.jobs.advance import advance
from backend.jobs.claims import cancelled_values
from backend.jobs.inputs import resolve_sources, with_readable_paths
from backend.jobs.tables import FINISHED, JobRow, JobState
from backend.pipelines.tables import PipelineRow
from backend.platform import Platform
from trainer.spec import JOB_SPEC, JobSpec, explain


def new_id() -> str:
    return uuid4().hex[:12]


def parse_spec(body: Any) -> JobSpec:
    """Raises: Invalid: in one line that names each wrong field."""
    try:
        return JOB_SPEC.validate_python(body)
    except ValidationError as error:
        raise Invalid(explain(error)) from error


def submit(platform: Platform, specs: Sequence[JobSpec], pipeline: str | None, reuse: bool) -> list[JobRow]:
    """Create the rows of all jobs at once, or none.

    Args:
        pipeline: name of the pipeline they form; none for a single job.

    Raises:
        Invalid: an input or a folder of a spec does not fit.
    """
    specs = [with_readable_paths(spec, platform.settings) for spec in specs]
    now = time.time()
    owner = PipelineRow(id=new_id(), name=pipeline, created=now) if pipeline is not None else None
    rows: dict[str, JobRow] = {}
    with platform.database.write() as session:
        if owner is not None:
            session.add(owner)
            session.flush()
        for position, spec in enumerate(specs):
            job_id = new_id()
            rows[spec.name] = JobRow(
                id=job_id, name=spec.name, kind=spec.kind, pipeline_id=owner.id if owner else None, position=position,
                spec=spec.model_dump(mode="json"), sources=resolve_sources(session, spec, rows),
                run_folder=str(platform.settings.store / job_id), created=now, reuse=reuse,
            )  # fmt: skip
        session.add_all(rows.values())
    advance(platform)
    return find_jobs(platform, ids=[row.id for row in rows.values()])


def find_jobs(
    platform: Platform,
    *,
    ids: Sequence[str] | None = None,
    pipeline: str | None = None,
    state: JobState | None = None,
    limit: int = 1_000,
) -> list[JobRow]:
    """Jobs, newest pipeline first, in recipe order within it."""
    query = select(JobRow).order_by(JobRow.created.desc(), JobRow.pipeline_id, JobRow.position).limit(limit)
    if ids is not None:
        query = query.where(JobRow.id.in_(ids))
    if pipeline is not None:
        query = query.where(JobRow.pipeline_id == pipeline)
    if state is not None:
        query = query.where(JobRow.state == state)
    with platform.database.read() as session:
        return list(session.scalars(query))


def get_job(platform: Platform, job_id: str) -> JobRow:
    """Raises: NotFound."""
    with platform.database.read() as session:
        row = session.get(JobRow, job_id)
    if row is None:
        raise NotFound(f"there is no job '{job_id}'; GET /jobs lists them")
    return row


def cancel(platform: Platform, job_ids: Sequence[str]) -> None:
    """Cancel what has not started, ask what runs to save and stop, leave the rest as it is."""
    mine = JobRow.id.in_(job_ids)
    not_started = JobRow.state.in_(("waiting", "queued"))
    with platform.database.write() as session:
        session.execute(update(JobRow).where(mine, not_started).values(**cancelled_values(time.time())))
        session.execute(update(JobRow).where(mine, JobRow.state == "running").values(cancel_requested=True))
    advance(platform)


def retry(platform: Platform, job_id: str) -> JobRow:
    """Queue a failed or cancelled job again, with the jobs that were cancelled because of it.

    It goes on in its run folder, so from its last snapshot where there is one.

    Raises:
        Conflict: the job has not ended, or has succeeded, or reads from one that has to be retried first.
    """
    row = get_job(platform, job_id)
    if row.state not in ("failed", "cancelled"):
        hint = "it has succeeded; submit it anew" if row.state == "succeeded" else "cancel it first"
        raise Conflict(f"job '{row.name}' is {row.state}; only a failed or cancelled job can be retried: {hint}")
    for source in find_jobs(platform, ids=list(row.sources.values())):
        if source.state in ("failed", "cancelled"):
            raise Conflict(
                f"job '{row.name}' reads from job '{source.name}', which "
                f"{'failed' if source.state == 'failed' else 'was cancelled'}; retry '{source.name}', "
                "and this one follows by itself"
            )
    with platform.database.write() as session:
        again = [job_id, *_never_started_after(session, row)]
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(again), JobRow.state.in_(FINISHED))
            .values(state="waiting", error=None, message="", finished=None, cancel_requested=False)
            .values(resumes=0, resumed_step=-1, sent=None)
        )
    advance(platform)
    return get_job(platform, job_id)


def _never_started_after(session: Session, row: JobRow) -> list[str]:
    """Cancelled jobs that read from this one, directly or not, and never ran."""
    query = select(JobRow).where(JobRow.state == "cancelled", JobRow.attempt == 0).order_by(JobRow.position)
    blocked = list(session.scalars(query.where(JobRow.created >= row.created)))
    reached = {row.id}
    for candidate in blocked:
        if reached & set(candidate.sources.values()):
            reached.add(candidate.id)
    return [job_id for job_id in reached if job_id != row.id]

"""Submitting, cancelling and retrying jobs."""

import time
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from backend.errors import Conflict, Invalid, NotFound
from backend.jobs.advance import advance
from backend.jobs.claims import cancelled_values
from backend.jobs.family import family_of
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

    Returns:
        The jobs asked for, without those that do parts of them.

    Raises:
        Invalid: an input or a folder of a spec does not fit.
    """
    specs = [with_readable_paths(spec, platform.settings) for spec in specs]
    now = time.time()
    owner = PipelineRow(id=new_id(), name=pipeline, created=now) if pipeline is not None else None
    rows: dict[str, JobRow] = {}
    position = count()
    with platform.database.write() as session:
        if owner is not None:
            session.add(owner)
            session.flush()
        for spec in specs:
            family: dict[str, JobRow] = {}
            for member in family_of(spec):
                job_id = new_id()
                family[member.name] = JobRow(
                    id=job_id, name=member.name, kind=member.kind, pipeline_id=owner.id if owner else None,
                    position=next(position), spec=member.model_dump(mode="json"),
                    sources=resolve_sources(session, member, rows | family),
                    run_folder=str(platform.settings.store / job_id), created=now, reuse=reuse,
                )  # fmt: skip
            *parts, rows[spec.name] = family.values()
            # First the row that those of its parts refer to.
            session.add(rows[spec.name])
            for part in parts:
                part.parent_id = rows[spec.name].id
                session.add(part)
    advance(platform)
    return find_jobs(platform, ids=[row.id for row in rows.values()])


def find_jobs(
    platform: Platform,
    *,
    ids: Sequence[str] | None = None,
    pipeline: str | None = None,
    parent: str | None = None,
    state: JobState | None = None,
    limit: int = 1_000,
) -> list[JobRow]:
    """Jobs, newest pipeline first, in recipe order within it."""
    query = select(JobRow).order_by(JobRow.created.desc(), JobRow.pipeline_id, JobRow.position).limit(limit)
    if ids is not None:
        query = query.where(JobRow.id.in_(ids))
    if pipeline is not None:
        query = query.where(JobRow.pipeline_id == pipeline)
    if parent is not None:
        query = query.where(JobRow.parent_id == parent)
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
    """Cancel what has not started, ask what runs to save and stop, leave the rest as it is; parts of a job with it."""
    mine = or_(JobRow.id.in_(job_ids), JobRow.parent_id.in_(job_ids))
    not_started = JobRow.state.in_(("waiting", "queued"))
    with platform.database.write() as session:
        session.execute(update(JobRow).where(mine, not_started).values(**cancelled_values(time.time())))
        session.execute(update(JobRow).where(mine, JobRow.state == "running").values(cancel_requested=True))
    advance(platform)


def retry(platform: Platform, job_id: str) -> JobRow:
    """Queue a failed or cancelled job again, with its parts that did not succeed and the jobs that ended because of it.

    It goes on in its run folder, so from its last snapshot where there is one.

    Raises:
        Conflict: the job or a part of it has not ended, or it has succeeded, or reads from one that has to be retried
            first.
    """
    row = get_job(platform, job_id)
    if row.state not in ("failed", "cancelled"):
        hint = "it has succeeded; submit it anew" if row.state == "succeeded" else "cancel it first"
        raise Conflict(f"job '{row.name}' is {row.state}; only a failed or cancelled job can be retried: {hint}")
    children = find_jobs(platform, parent=job_id)
    for child in children:
        if child.cancel_requested and child.state == "running":
            raise Conflict(f"job '{child.name}', a part of '{row.name}', is still stopping; retry once it has")
    for source in find_jobs(platform, ids=list(row.sources.values())):
        if source.parent_id == job_id:
            continue
        if source.state in ("failed", "cancelled"):
            raise Conflict(
                f"job '{row.name}' reads from job '{source.name}', which "
                f"{'failed' if source.state == 'failed' else 'was cancelled'}; retry '{source.name}', "
                "and this one follows by itself"
            )
    with platform.database.write() as session:
        lost = [child.id for child in children if child.state in ("failed", "cancelled")]
        again = [job_id, *lost, *_never_started_after(session, row)]
        session.execute(
            update(JobRow)
            .where(JobRow.id.in_(again), JobRow.state.in_(FINISHED))
            .values(state="waiting", error=None, message="", finished=None, cancel_requested=False)
            .values(resumes=0, resumed_step=-1, sent=None)
        )
    advance(platform)
    return get_job(platform, job_id)


def _never_started_after(session: Session, row: JobRow) -> list[str]:
    """Jobs that read from this one, directly or not, and ended without ever running: cancelled, or a part failed."""
    ended = JobRow.state.in_(("failed", "cancelled"))
    query = select(JobRow).where(ended, JobRow.attempt == 0).order_by(JobRow.position)
    blocked = list(session.scalars(query.where(JobRow.created >= row.created)))
    reached = {row.id}
    for candidate in blocked:
        if reached & set(candidate.sources.values()):
            reached.add(candidate.id)
    return [job_id for job_id in reached if job_id != row.id]

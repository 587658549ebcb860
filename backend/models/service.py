"""Checkpoints that jobs left, as rows."""

import time
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from backend.db import upsert
from backend.jobs.tables import JobRow
from backend.models.schemas import CheckpointSchema
from backend.models.tables import CheckpointRow
from backend.platform import Platform
from trainer.artifacts import RunFolder, complete_steps, folder_hashes

WEIGHTS = "model.safetensors"


def found_in(run: RunFolder, job_id: str) -> list[dict[str, Any]]:
    """Rows for the complete checkpoints of a run folder; reads files."""
    return [
        {
            "job_id": job_id,
            "step": int(folder.name.removeprefix("step_")),
            "folder": str(folder),
            "sha256": folder_hashes(folder).get(WEIGHTS, ""),
            "created": time.time(),
        }
        for folder in complete_steps(run.checkpoints)
    ]


def record(session: Session, rows: list[dict[str, Any]]) -> None:
    upsert(session, CheckpointRow.__table__, rows, update=False)


def list_checkpoints(platform: Platform) -> list[CheckpointSchema]:
    query = select(CheckpointRow, JobRow).join(JobRow).order_by(CheckpointRow.created.desc(), CheckpointRow.step.desc())
    with platform.database.read() as session:
        found = session.execute(query).all()
    return [
        CheckpointSchema(
            job=job.id, name=job.name, kind=job.kind, pipeline=job.pipeline_id, step=checkpoint.step,
            folder=checkpoint.folder, sha256=checkpoint.sha256, created=checkpoint.created,
        )
        for checkpoint, job in found
    ]  # fmt: skip

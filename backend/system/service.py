import os
import platform as machine
import time
from pathlib import Path

import psutil
from sqlalchemy import func, select

from backend.jobs.tables import JobRow, WorkerRow
from backend.platform import Platform
from backend.system.schemas import Device, Queue, Space, SystemSchema, WorkerSchema
from backend.version import version

FORGET_SECONDS = 3600.0
LOOK_SECONDS = 0.1  # without an interval the first look always says 0 %


def look(platform: Platform) -> SystemSchema:
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(platform.settings.home))
    return SystemSchema(
        version=version(),
        device=Device(kind=platform.settings.device, name=_processor(), cores=os.cpu_count() or 1),
        cpu_percent=psutil.cpu_percent(interval=LOOK_SECONDS),
        memory=Space(total=memory.total, used=memory.total - memory.available),
        disk=Space(total=disk.total, used=disk.used),
        workers=_workers(platform),
        queue=_queue(platform),
    )


def _processor() -> str:
    """The processor's name where Linux tells it, else its architecture."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else machine.machine()


def _workers(platform: Platform) -> list[WorkerSchema]:
    now = time.time()
    recent = select(WorkerRow).where(WorkerRow.seen > now - FORGET_SECONDS).order_by(WorkerRow.started)
    with platform.database.read() as session:
        rows = list(session.scalars(recent))
        running = session.execute(select(JobRow.worker, JobRow.id).where(JobRow.state == "running")).all()
    jobs = dict(running)
    return [
        WorkerSchema(
            id=row.id, host=row.host, device=row.device, started=row.started, seen=row.seen,
            alive=now - row.seen < platform.settings.lease_seconds, job=jobs.get(row.id),
        )
        for row in rows
    ]  # fmt: skip


def _queue(platform: Platform) -> Queue:
    with platform.database.read() as session:
        counted = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state)).all()
    counts: dict[str, int] = {str(state): count for state, count in counted}
    states = {state: counts.get(state, 0) for state in ("waiting", "queued", "running")}
    return Queue(**states, messages=platform.messages.length())

"""metrics.jsonl into rows, in batches, and out again by sequence number."""

import json
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from backend.db import upsert
from backend.jobs.tables import MetricRow

logger = logging.getLogger(__name__)
BATCH_BYTES = 1 << 20
PAGE_VALUES = 50_000


@dataclass(frozen=True)
class MetricLine:
    step: int
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Batch:
    """New lines of a file; `whole`: the file was begun anew, so these are all the lines it has."""

    lines: list[MetricLine]
    whole: bool


class MetricsReader:
    """Follows a metrics.jsonl that grows, and that a resumed run replaces by a shorter one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = -1
        self._offset = 0

    def read(self) -> Batch | None:
        """The lines since the last call; none when nothing changed."""
        if not self._path.is_file():
            return None
        with open(self._path, "rb") as file:
            stat = os.fstat(file.fileno())
            whole = stat.st_ino != self._inode or stat.st_size < self._offset
            if not whole and stat.st_size == self._offset:
                return None
            file.seek(0 if whole else self._offset)
            data = file.read() if whole else file.read(BATCH_BYTES)
        self._inode = stat.st_ino
        # A line that is still being written waits for its end.
        complete = data[: data.rfind(b"\n") + 1]
        self._offset = (0 if whole else self._offset) + len(complete)
        lines = [line for line in map(_parse, complete.splitlines()) if line is not None]
        return Batch(lines, whole) if lines or whole else None


def _parse(line: bytes) -> MetricLine | None:
    try:
        raw = json.loads(line)
        return MetricLine(int(raw["step"]), float(raw["time"]), dict(raw["values"]))
    except (ValueError, KeyError, TypeError):
        # A process killed in the middle of a line leaves half of one behind.
        logger.warning("metrics: a line that does not parse was left out: %r", line[:80])
        return None


def store(session: Session, job_id: str, batch: Batch, seq: int) -> int:
    """Write a batch; returns the new highest sequence number of the job.

    A file begun anew first takes away the rows after its last step, which the resumed run will write again; lines
    that are in the table already are not given a new number.
    """
    lines = batch.lines
    if batch.whole:
        last = max((line.step for line in lines), default=-1)
        session.execute(delete(MetricRow).where(MetricRow.job_id == job_id, MetricRow.step > last))
        known = session.scalar(select(func.max(MetricRow.step)).where(MetricRow.job_id == job_id))
        lines = [line for line in lines if known is None or line.step >= known]
    rows = [row for number, line in enumerate(lines, start=seq + 1) for row in _rows(job_id, number, line)]
    upsert(session, MetricRow.__table__, rows, update=True)
    return seq + len(lines)


def _rows(job_id: str, seq: int, line: MetricLine) -> list[dict[str, Any]]:
    return [
        {"job_id": job_id, "step": line.step, "name": name, "seq": seq, "time": line.time, "value": _finite(value)}
        for name, value in line.values.items()
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def read_page(session: Session, job_id: str, since: int, names: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """Rows after `since`, at most about PAGE_VALUES numbers, and the `since` to ask with next."""
    query = (
        select(MetricRow.seq, MetricRow.step, MetricRow.time, MetricRow.name, MetricRow.value)
        .where(MetricRow.job_id == job_id, MetricRow.seq > since)
        .order_by(MetricRow.seq, MetricRow.name)
        .limit(PAGE_VALUES)
    )
    if names:
        query = query.where(MetricRow.name.in_(names))
    found = session.execute(query).all()
    rows: list[dict[str, Any]] = []
    for seq, step, time, name, value in found:
        if not rows or rows[-1]["seq"] != seq:
            rows.append({"seq": seq, "step": step, "time": time, "values": {}})
        rows[-1]["values"][name] = value
    # A full page may have cut its last row in two: that row comes with the next page.
    if len(found) == PAGE_VALUES and len(rows) > 1:
        rows.pop()
    return rows, rows[-1]["seq"] if rows else since

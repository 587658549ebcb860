"""usage.jsonl, which serving appends to, into rows."""

import logging
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import func, insert, select, update

from backend.deployments.publish import BACKEND_KEY
from backend.deployments.schemas import UsageSchema
from backend.deployments.tables import UsageFileRow, UsageRow
from backend.jobs.claims import rowcount
from backend.platform import Platform
from backend.users.tables import KeyRow, UserRow

logger = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 20


class UsageLine(BaseModel):
    time: float
    key: str
    model: str
    prompt_tokens: int
    completion_tokens: int


def ingest(platform: Platform) -> int:
    """Read what was appended since the last time; returns how many rows that were.

    The offset moves in the transaction that adds the rows, on condition that nobody moved it: replicas that read at
    once count nothing twice.
    """
    path = platform.settings.home / "usage.jsonl"
    if not path.is_file():
        return 0
    with platform.database.read() as session:
        known = session.get(UsageFileRow, str(path))
    start = known.offset if known else 0
    data = _read_lines(path, start)
    if not data:
        return 0
    rows = [row for row in map(_parse, data.splitlines()) if row is not None]
    with platform.database.write() as session:
        if known is None and session.get(UsageFileRow, str(path)) is None:
            session.add(UsageFileRow(path=str(path), offset=0))
            session.flush()
        moved = (
            update(UsageFileRow)
            .where(UsageFileRow.path == str(path), UsageFileRow.offset == start)
            .values(offset=start + len(data))
            .execution_options(synchronize_session=False)
        )
        if rowcount(session, moved) != 1:
            return 0
        if rows:
            session.execute(insert(UsageRow), rows)
    return len(rows)


def _read_lines(path: Path, start: int) -> bytes:
    """Whole lines only: the last one may still be being written."""
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(CHUNK_BYTES)
    return data[: data.rfind(b"\n") + 1]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        usage = UsageLine.model_validate_json(line)
    except ValidationError:
        logger.warning("usage: a line that does not parse was left out: %r", line[:80])
        return None
    raw = usage.model_dump()
    return {"key_id": raw.pop("key"), **raw}


def by_key(platform: Platform) -> list[UsageSchema]:
    while ingest(platform):
        pass
    totals = (func.count(), func.sum(UsageRow.prompt_tokens), func.sum(UsageRow.completion_tokens))
    query = (
        select(UsageRow.key_id, UserRow.name, UsageRow.model, *totals)
        .outerjoin(KeyRow, KeyRow.id == UsageRow.key_id)
        .outerjoin(UserRow, UserRow.id == KeyRow.user_id)
        .group_by(UsageRow.key_id, UserRow.name, UsageRow.model)
        .order_by(UsageRow.key_id, UsageRow.model)
    )
    with platform.database.read() as session:
        found = session.execute(query).all()
    return [
        UsageSchema(
            key=key, user=BACKEND_KEY if key == BACKEND_KEY else name, model=model,
            requests=requests, prompt_tokens=prompt, completion_tokens=completion,
        )
        for key, name, model, requests, prompt, completion in found
    ]  # fmt: skip

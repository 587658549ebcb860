"""serving.json: everything serving must know, in one file that is replaced as a whole."""

import fcntl
import json
from typing import Any

from sqlalchemy import select

from backend.auth import key_sha256, serving_key
from backend.deployments.changes import Wanted, all_current
from backend.platform import Platform
from backend.users.tables import KeyRow, UserRow
from trainer.artifacts import write_atomic

VERSION = 2
BACKEND_KEY = "backend"


def publish(platform: Platform) -> None:
    """Write serving.json from the database as it is now.

    Backend and worker both do this: under the lock nobody replaces a newer file by an older state.
    """
    home = platform.settings.home
    with open(home / ".serving.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_atomic(home / "serving.json", json.dumps(_content(platform), indent=1), mode=0o600)


def _content(platform: Platform) -> dict[str, Any]:
    may_ask = UserRow.role.in_(("admin", "member"))
    keys_query = select(KeyRow).join(UserRow).where(may_ask, KeyRow.revoked.is_(None)).order_by(KeyRow.created)
    with platform.database.read() as session:
        deployments = all_current(session)
        keys = [_key(row) for row in session.scalars(keys_query)]
    backend_key = {"id": BACKEND_KEY, "sha256": key_sha256(serving_key(platform.settings))}
    return {
        "version": VERSION,
        "deployments": [{"model_name": wanted.model_name, "versions": _versions(wanted)} for wanted in deployments],
        "keys": [*keys, backend_key],
    }


def _versions(wanted: Wanted) -> list[dict[str, Any]]:
    """With weight 0, serving keeps a version loaded: a rollback takes no time and cannot be refused."""
    weighted = [
        *((version, version.weight) for version in wanted.versions),
        *((version, 0.0) for version in wanted.kept),
    ]
    return [{"id": version.job, "export": version.export, "weight": weight} for version, weight in weighted]


def _key(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "sha256": row.sha256,
        "requests_per_minute": row.requests_per_minute,
        "tokens_per_minute": row.tokens_per_minute,
        "keep_chats": row.keep_chats,
    }

"""What serving is to answer with, as a history of changes per model name."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from backend.deployments.tables import Action, DeploymentChangeRow


@dataclass(frozen=True)
class Version:
    """An export of a deployment; its id is that of the job that made it."""

    job: str
    export: str
    weight: float = 1.0


@dataclass(frozen=True)
class Wanted:
    """What a model name is to answer with, and what a rollback returns to. Without versions it is removed."""

    model_name: str
    versions: tuple[Version, ...]
    previous: tuple[Version, ...] = ()
    since: float = 0.0

    @property
    def kept(self) -> tuple[Version, ...]:
        """What is loaded for a rollback alone."""
        return tuple(version for version in self.previous if version.job not in {v.job for v in self.versions})


def current(session: Session, model_name: str) -> Wanted | None:
    query = select(DeploymentChangeRow).where(DeploymentChangeRow.model_name == model_name)
    row = session.scalar(query.order_by(DeploymentChangeRow.id.desc()).limit(1))
    return _wanted(row) if row is not None and row.versions else None


def all_current(session: Session) -> list[Wanted]:
    newest = select(func.max(DeploymentChangeRow.id)).group_by(DeploymentChangeRow.model_name)
    query = select(DeploymentChangeRow).where(DeploymentChangeRow.id.in_(newest))
    rows = session.scalars(query.order_by(DeploymentChangeRow.model_name))
    return [_wanted(row) for row in rows if row.versions]


def add(session: Session, wanted: Wanted, action: Action, user: str | None) -> None:
    row = DeploymentChangeRow(
        model_name=wanted.model_name, time=time.time(), action=action, user=user,
        versions=_raw(wanted.versions), previous=_raw(wanted.previous),
    )  # fmt: skip
    session.add(row)


def history(session: Session, model_name: str) -> list[DeploymentChangeRow]:
    """Newest first."""
    query = select(DeploymentChangeRow).where(DeploymentChangeRow.model_name == model_name)
    return list(session.scalars(query.order_by(DeploymentChangeRow.id.desc())))


def _wanted(row: DeploymentChangeRow) -> Wanted:
    versions, previous = (tuple(Version(**item) for item in items) for items in (row.versions, row.previous))
    return Wanted(row.model_name, versions, previous, row.time)


def _raw(versions: Sequence[Version]) -> list[dict[str, object]]:
    return [asdict(version) for version in versions]

"""What a job or a dataset was made of, and what was made of it."""

from collections.abc import Iterable

from sqlalchemy import select

from backend.datasets.tables import DatasetRow
from backend.errors import NotFound
from backend.jobs.inputs import DATASET
from backend.jobs.tables import JobRow
from backend.lineage.schemas import Edge, Lineage, Node
from backend.platform import Platform


def lineage(platform: Platform, of: str) -> Lineage:
    """Everything that lies before or behind one node, but not what merely shares a source with it.

    Raises:
        NotFound: there is no such job or dataset.
    """
    with platform.database.read() as session:
        jobs = list(
            session.scalars(select(JobRow).where(JobRow.parent_id.is_(None)).order_by(JobRow.created, JobRow.position))
        )
        datasets = list(session.scalars(select(DatasetRow).order_by(DatasetRow.created)))
    nodes = [Node(id=row.id, type="job", name=row.name, kind=row.kind, state=row.state) for row in jobs]
    nodes += [Node(id=row.id, type="dataset", name=row.id, kind=row.kind, state="succeeded") for row in datasets]
    known = {node.id for node in nodes}
    if of not in known:
        raise NotFound(f"there is no job and no dataset '{of}'; GET /jobs and GET /datasets list them")
    edges = [edge for row in jobs for edge in _read_by(row) if edge.source in known]
    edges += [Edge(source=row.job_id, target=row.id, role=row.kind) for row in datasets if row.job_id]
    before = _reached(of, [(edge.target, edge.source) for edge in edges])
    behind = _reached(of, [(edge.source, edge.target) for edge in edges])
    return Lineage(
        nodes=[node for node in nodes if node.id in before | behind],
        edges=[edge for edge in edges if {edge.source, edge.target} <= before or {edge.source, edge.target} <= behind],
    )


def _read_by(row: JobRow) -> Iterable[Edge]:
    named = {role: source.removeprefix(DATASET) for role, source in row.spec.get("inputs", {}).items()
             if source.startswith(DATASET)}  # fmt: skip
    labels = {"labels": row.dataset_id} if row.dataset_id else {}
    return [Edge(source=source, target=row.id, role=role) for role, source in (row.sources | named | labels).items()]


def _reached(start: str, steps: Iterable[tuple[str, str]]) -> set[str]:
    following: dict[str, list[str]] = {}
    for source, target in steps:
        following.setdefault(source, []).append(target)
    reached, pending = {start}, [start]
    while pending:
        new = set(following.get(pending.pop(), ())) - reached
        reached |= new
        pending += new
    return reached

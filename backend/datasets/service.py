from sqlalchemy import select

from backend.datasets.schemas import DatasetSchema
from backend.datasets.tables import DatasetRow
from backend.platform import Platform


def list_datasets(platform: Platform) -> list[DatasetSchema]:
    with platform.database.read() as session:
        rows = list(session.scalars(select(DatasetRow).order_by(DatasetRow.created.desc())))
    return [
        DatasetSchema(id=row.id, kind=row.kind, folder=row.folder, rows=row.rows, created=row.created) for row in rows
    ]

from sqlalchemy import select

from backend.datasets.tables import DatasetRow
from backend.errors import NotFound
from backend.platform import Platform


def list_datasets(platform: Platform) -> list[DatasetRow]:
    with platform.database.read() as session:
        return list(session.scalars(select(DatasetRow).order_by(DatasetRow.created.desc())))


def get_dataset(platform: Platform, dataset_id: str) -> DatasetRow:
    """Raises: NotFound."""
    with platform.database.read() as session:
        row = session.get(DatasetRow, dataset_id)
    if row is None:
        raise NotFound(f"there is no dataset '{dataset_id}'; GET /datasets lists them")
    return row

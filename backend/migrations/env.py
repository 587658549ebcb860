"""Alembic's entry: runs the revisions over the connection it is handed, or over that of the settings."""

from alembic import context
from sqlalchemy import Connection

import backend.tables  # noqa: F401 - fills the metadata
from backend.db import Base, Database
from backend.settings import Settings


def _run(connection: Connection) -> None:
    # SQLite cannot alter a column in place: batch mode copies the table.
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


handed = context.config.attributes.get("connection")
if handed is not None:
    _run(handed)
else:
    with Database(Settings().database_url).connection() as connection:
        _run(connection)

"""Bring the database to the newest revision, or wait until somebody did."""

import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Event

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from backend.db import Database

# Any fixed number: PostgreSQL lets one holder of this lock migrate at a time.
MIGRATION_LOCK = 7_203_114


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def require_database(url: str) -> None:
    """Check that the database can be opened.

    Raises:
        SystemExit: it cannot; the message says why and which variable to look at.
    """
    try:
        with closing(Database(url)) as database, database.engine.connect():
            pass
    except (SQLAlchemyError, sqlite3.Error, ImportError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise SystemExit(f"the database cannot be opened: {reason}; check OCTAVO_DATABASE_URL") from error


def migrate(database: Database) -> None:
    """Run the revisions that are missing; replicas that start together do it one after the other."""
    config = _config()
    with database.connection() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:id)"), {"id": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def wait_until_migrated(database: Database, stopping: Event, timeout: float = 60.0) -> None:
    """Wait for the backend to have migrated.

    Raises:
        SystemExit: it did not within `timeout` seconds.
    """
    head = ScriptDirectory.from_config(_config()).get_current_head()
    for _ in range(int(timeout / 0.5)):
        with database.engine.connect() as connection:
            if MigrationContext.configure(connection).get_current_revision() == head:
                return
        if stopping.wait(0.5):
            return
    raise SystemExit("the database has not been migrated; start the backend (python -m backend) first")

"""What every service needs, made once by a process and handed down."""

from dataclasses import dataclass

from backend.db import Database
from backend.messages import Messages
from backend.settings import Settings
from backend.store import Store


@dataclass(frozen=True)
class Platform:
    settings: Settings
    database: Database
    messages: Messages
    store: Store

    @classmethod
    def open(cls, settings: Settings) -> "Platform":
        settings.make_folders()
        store = Store(settings.store, settings.store_remote)
        return cls(settings, Database(settings.database_url), Messages(settings), store)

    def close(self) -> None:
        self.messages.close()
        self.database.close()

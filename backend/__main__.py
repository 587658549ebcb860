"""python -m backend: the HTTP API."""

from backend.ports import require_free_port
from backend.settings import read_settings


def main() -> None:
    try:
        settings = read_settings()
        settings.make_folders()
    except ValueError as error:
        raise SystemExit(str(error)) from error
    require_free_port(settings.backend_host, settings.backend_port, "OCTAVO_BACKEND_PORT")
    # Imported only now: a busy port is refused before anything heavy is loaded.
    import uvicorn

    from backend.app import create_app
    from backend.schema import require_database

    require_database(settings.database_url)
    uvicorn.run(create_app(settings), host=settings.backend_host, port=settings.backend_port, access_log=False)


if __name__ == "__main__":
    main()

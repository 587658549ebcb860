"""python -m backend: the HTTP API."""

from backend.ports import require_free_port
from backend.settings import Settings


def main() -> None:
    settings = Settings()
    require_free_port(settings.backend_host, settings.backend_port, "OCTAVO_BACKEND_PORT")
    # Imported only now: a busy port is refused before anything heavy is loaded.
    import uvicorn

    from backend.app import create_app

    uvicorn.run(create_app(settings), host=settings.backend_host, port=settings.backend_port, access_log=False)


if __name__ == "__main__":
    main()

"""python -m serving: the endpoint on OCTAVO_SERVING_PORT."""

import logging
import socket
import sys

import uvicorn
from pydantic import ValidationError

from serving.settings import Settings
from trainer.spec import explain

GRACE_SECONDS = 10  # how long streams may still run after SIGTERM


def listen(host: str, port: int) -> socket.socket:
    """Take the port.

    Raises:
        ValueError: it is taken, or the address is none of this machine's.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"serving cannot listen on port {port} of {host} ({error.strerror}); free the port, or set "
            "OCTAVO_SERVING_PORT to another one"
        ) from error
    return listener


def main() -> int:
    try:
        settings = Settings()
        listener = listen(settings.serving_host, settings.serving_port)
    except ValidationError as error:
        print(f"error: settings (OCTAVO_…): {explain(error)}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # Only now what takes a moment to load: a busy port is said at once.
    from serving.app import create_app

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        create_app(settings), log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS, log_config=None
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())

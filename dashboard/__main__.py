"""python -m dashboard: the web server, with the one route that Streamlit does not have."""

import errno
import socket
from pathlib import Path

import streamlit as st

from dashboard.sessions import session_routes
from dashboard.settings import Settings


def require_free_port(host: str, port: int) -> None:
    """Check that the dashboard can listen, before anything is started.

    Raises:
        SystemExit: the address is taken or cannot be used; the message names the variable to set.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SystemExit(
                    f"port {port} is in use by another process; free it or set OCTAVO_DASHBOARD_PORT"
                ) from error
            raise SystemExit(f"cannot listen on {host}:{port} ({error.strerror}); set OCTAVO_DASHBOARD_HOST") from error


def main() -> None:
    settings = Settings()
    require_free_port(settings.dashboard_host, settings.dashboard_port)
    app = st.App(Path(__file__).with_name("app.py"), routes=session_routes())
    app.run(
        config={
            "server.address": settings.dashboard_host,
            "server.port": settings.dashboard_port,
            "server.headless": True,
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": False,
            "client.toolbarMode": "minimal",
            "client.showErrorDetails": "none",
        }
    )


if __name__ == "__main__":
    main()

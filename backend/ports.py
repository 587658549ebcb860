"""A busy port is said at once and in one sentence, before anything else happens."""

import errno
import socket


def require_free_port(host: str, port: int, variable: str) -> None:
    """Check that a server can listen.

    Raises:
        SystemExit: another process listens there; the message names the port and the variable to set.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SystemExit(f"port {port} is in use by another process; free it or set {variable}") from error
            raise SystemExit(f"cannot listen on {host}:{port} ({error.strerror}); set {variable}") from error

"""Which ports the platform needs, and who holds one that is busy."""

import socket

import psutil

from backend.settings import Settings


def needed_ports(settings: Settings, embedded_broker: bool) -> dict[str, int]:
    """Environment variable -> port that one of the five processes will listen on."""
    ports = {
        "OCTAVO_BACKEND_PORT": settings.backend_port,
        "OCTAVO_SERVING_PORT": settings.serving_port,
        "OCTAVO_DASHBOARD_PORT": settings.dashboard_port,
    }
    return {"OCTAVO_BROKER_PORT": settings.broker_port, **ports} if embedded_broker else ports


def require_free(ports: dict[str, int]) -> None:
    """Check every port before anything starts.

    Raises:
        ValueError: two variables name one port, or a port is busy; says which, who holds it and what to set.
    """
    owner: dict[int, str] = {}
    for variable, port in ports.items():
        if port in owner:
            raise ValueError(f"{owner[port]} and {variable} both name port {port}; set one of them to another port")
        owner[port] = variable
        if is_busy(port):
            raise ValueError(f"port {port} is in use by {holder(port)}; free it or set {variable} to another port")


def is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return True
    return False


def holder(port: int) -> str:
    """The process that listens on a port, as far as this user may know it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "another process"
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.NoSuchProcess:
                break
    return "another process"

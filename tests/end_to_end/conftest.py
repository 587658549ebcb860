"""The whole platform in a home of its own, on free ports, started and stopped as `make` does it."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.api import Backend

ROOT = Path(__file__).parent.parent.parent
PORTS = ("OCTAVO_BACKEND_PORT", "OCTAVO_SERVING_PORT", "OCTAVO_DASHBOARD_PORT", "OCTAVO_BROKER_PORT")


@dataclass(frozen=True)
class House:
    """A running platform."""

    home: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m …` in this platform's environment."""
        return subprocess.run(
            [sys.executable, "-m", *arguments], cwd=ROOT, env=self.environment, capture_output=True, text=True,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def address(self, variable: str) -> str:
        return f"http://127.0.0.1:{self.environment[variable]}"

    @property
    def key(self) -> str:
        return (self.home / "admin_key").read_text().strip()

    @property
    def backend(self) -> Backend:
        return Backend(self.address("OCTAVO_BACKEND_PORT"), self.key)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on; all are held until all are known, so that no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    # Not tmp_path: the socket of the supervisor lies in the home, and its path must be short.
    with tempfile.TemporaryDirectory(prefix="octavo-") as folder:
        ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
        made = House(Path(folder), {**os.environ, **ports, "OCTAVO_HOME": folder})
        try:
            up = made.command("scripts.supervise", "up")
            assert up.returncode == 0, up.stderr
            yield made
        finally:
            down = made.command("scripts.supervise", "down")
        assert down.returncode == 0, down.stderr


@pytest.fixture(scope="session")
def demo(house: House) -> dict[str, Any]:
    """The demo with the smoke recipe, in a new home: what it left in demo.json, and what it `printed`."""
    return run_demo(house)


@pytest.fixture(scope="session")
def second_demo(house: House, demo: dict[str, Any]) -> dict[str, Any]:
    """The same once more, with nothing changed. A test that gives a label needs it first: a label is a change."""
    return run_demo(house)


def run_demo(house: House) -> dict[str, Any]:
    done = house.command("scripts.demo", "--recipe", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((house.home / "demo.json").read_text())
    return found | {"printed": done.stdout}

import os
import socket
import subprocess
import sys

import pytest

from dashboard.settings import Settings


def test_a_busy_port_is_one_sentence_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-m", "dashboard"],
            env=os.environ | {"OCTAVO_DASHBOARD_PORT": port}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.strip() == f"port {port} is in use by another process; free it or set OCTAVO_DASHBOARD_PORT"


def test_addresses_follow_the_ports_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKEND_URL", "SERVING_URL", "SERVING_PORT"):
        monkeypatch.delenv(f"OCTAVO_{name}", raising=False)
    monkeypatch.setenv("OCTAVO_BACKEND_PORT", "9000")
    settings = Settings()
    assert (settings.backend_url, settings.serving_url) == ("http://127.0.0.1:9000", "http://127.0.0.1:8001")
    monkeypatch.setenv("OCTAVO_BACKEND_URL", "http://elsewhere/")
    assert Settings().backend_url == "http://elsewhere"

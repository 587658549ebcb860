import os
import socket
from collections.abc import Iterator

import pytest

from scripts.ports import holder, is_busy, require_free


@pytest.fixture
def listener() -> Iterator[int]:
    """A port somebody listens on: this process."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_busy_port_is_named_with_its_holder_and_its_variable(listener: int) -> None:
    with pytest.raises(ValueError, match=rf"port {listener} is in use by .*\b{os.getpid()}\b.*OCTAVO_SERVING_PORT"):
        require_free({"OCTAVO_SERVING_PORT": listener})


def test_a_port_is_free_again_once_nobody_listens(listener: int) -> None:
    assert is_busy(listener)
    assert str(os.getpid()) in holder(listener)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    require_free({"OCTAVO_BACKEND_PORT": port})


def test_two_variables_cannot_name_one_port() -> None:
    with pytest.raises(ValueError, match="OCTAVO_BACKEND_PORT and OCTAVO_SERVING_PORT both name port 65001"):
        require_free({"OCTAVO_BACKEND_PORT": 65001, "OCTAVO_SERVING_PORT": 65001})

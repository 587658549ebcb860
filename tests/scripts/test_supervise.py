from pathlib import Path
from typing import Any

import pytest

from backend.settings import Settings
from scripts.supervise import Platform, main


def test_a_home_whose_path_is_too_long_for_a_socket_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 30)
    with pytest.raises(ValueError, match=r"OCTAVO_HOME is .* too long"):
        Platform(Settings(home=home)).up()
    assert not home.exists()


def test_down_without_a_platform_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    assert main(["down"]) == 0
    assert "No platform is running" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["up", "down"])
def test_a_home_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (tmp_path / ".supervise.lock").mkdir()
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    assert main([command]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"OCTAVO_HOME {tmp_path}" in message


class Restarting(Platform):
    """A backend that dies some seconds after each start, which supervisord takes for running."""

    pid = 0

    def states(self) -> dict[str, dict[str, Any]]:
        self.pid += 1
        return {"backend": {"statename": "RUNNING", "pid": self.pid}}


def test_a_process_that_keeps_dying_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "backend.log").write_text("error: the database cannot be opened\n")
    with pytest.raises(ValueError, match="backend does not start: the database cannot be opened"):
        Restarting(Settings(home=tmp_path))._wait_until_ready()


def test_a_wrong_setting_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_BACKEND_PORT", "eighty")
    assert main(["up"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "OCTAVO_BACKEND_PORT" in message

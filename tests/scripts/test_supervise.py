from pathlib import Path

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


def test_a_wrong_setting_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_BACKEND_PORT", "eighty")
    assert main(["up"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "OCTAVO_BACKEND_PORT" in message

from pathlib import Path

import pytest

from scripts.demo import main

CLEAN_ONLY = 'name = "texts"\n[[jobs]]\nkind = "clean"\nname = "clean"\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: Is a directory"),
        (b"name = ", "is not TOML"),
        (b"\xff", "is not TOML"),
        (CLEAN_ONLY.replace("clean", "cleen").encode(), "'cleen' is unknown"),
        (CLEAN_ONLY.encode(), "has no synthesize job"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, said: str
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.mkdir() if content is None else recipe.write_bytes(content)
    assert main(["--recipe", str(recipe)]) == 1
    message = capsys.readouterr().err.strip()
    assert said in message
    assert "\n" not in message


def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OCTAVO_BACKEND_PORT", "eighty")
    assert main(["--recipe", "smoke"]) == 1
    message = capsys.readouterr().err.strip()
    assert "OCTAVO_BACKEND_PORT" in message
    assert "\n" not in message

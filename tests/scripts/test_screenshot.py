import json
from pathlib import Path

import pytest

from scripts.screenshot import demo_page, main


def test_the_page_of_the_demo_is_its_reinforcement_learning(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text(json.dumps({"jobs": {"sft": "a", "rlhf": "b"}}))
    assert demo_page(tmp_path) == "run?id=b"


def test_without_a_demo_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    assert main([]) == 1
    assert "run the demo first, or name a page" in capsys.readouterr().err

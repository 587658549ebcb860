import time
from pathlib import Path

import psutil
import pytest

from backend.asking import TimedOut, ask_trainer
from backend.errors import Invalid


def test_the_answer_of_a_command_is_its_json(tmp_path: Path) -> None:
    assert ask_trainer(["check-problem"], "{}")["fault"].startswith("id: ")


def test_a_refusal_is_the_commands_own_sentence(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"id": "x", "spec": {"kind": "synthesize", "name": "s"}}')
    with pytest.raises(Invalid, match=f"^run {tmp_path.name} has no record of step 3;") as caught:
        ask_trainer(["drawn", str(tmp_path), "--step", "3"])
    assert "error" not in str(caught.value)


def test_a_defect_is_no_refusal() -> None:
    with pytest.raises(RuntimeError, match="invalid choice"):
        ask_trainer(["no-such-command"])


def test_what_takes_too_long_is_ended() -> None:
    before = time.monotonic()
    with pytest.raises(TimedOut, match=r"did not end within 0.2 s"):
        ask_trainer(["check-problem"], seconds=0.2)
    assert time.monotonic() - before < 10
    assert not [child for child in psutil.Process().children() if "check-problem" in child.cmdline()]

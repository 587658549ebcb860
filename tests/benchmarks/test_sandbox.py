"""The benchmark of the sandbox, on two tasks."""

import gzip
import json
from pathlib import Path

import pytest

from benchmarks.speed.sandbox import main

TASKS = [
    {"id": 1, "solution": "def one(): return 1", "setup": "", "tests": ["assert one() == 1"]},
    {"id": 2, "solution": "def two(): return 2", "setup": "", "tests": ["assert two() == 2", "assert two() < 3"]},
]
WRONG = {"id": 3, "solution": "def three(): return 4", "setup": "", "tests": ["assert three() == 3"]}


def test_solutions_that_pass_and_those_that_do_not_are_told_apart(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    with gzip.open(tmp_path / "code_a.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, TASKS)))
    assert main(["--data", str(tmp_path), "--results", str(results)]) == 0
    found = json.loads(results.read_text())
    assert (found["tasks"], found["passed"], found["passed by the next task's solution"]) == (2, 2, 0)
    assert found["programs per second"] > 0
    (tmp_path / "code_b.jsonl").write_text(json.dumps(WRONG))
    assert main(["--data", str(tmp_path), "--results", str(results)]) == 1
    assert json.loads(results.read_text())["not passed"] == ["code_b.jsonl:3"]


def test_a_folder_without_tasks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no code_"):
        main(["--data", str(tmp_path)])

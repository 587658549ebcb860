"""The clean stage: from folders to documents, with an account; mistakes leave nothing half-done."""

import json
from pathlib import Path

import pytest

from tests.trainer.data.rules.documents import ENGLISH
from trainer.artifacts import Run, RunFolder, folder_hashes, read_jsonl
from trainer.spec import CleanSpec, Job, Record
from trainer.stages import clean

PROSE = (
    ENGLISH
    + " The harbour master wrote down {} ships of {} that came in from the north, {} with timber and {} with salt."
)


def corpus(folder: Path) -> Path:
    folder.mkdir()
    rows = [{"text": PROSE.format(n, n * 7, n * 11, n * 13)} for n in range(5)]
    rows += [rows[2], {"text": "short"}, {"text": "short"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "code.py").write_text("\n".join(f"value_{n} = compute(value_{n - 1}, {n * n})" for n in range(60)))
    return folder


def spec(folder: Path, **changes: object) -> CleanSpec:
    return CleanSpec.model_validate(
        {"name": "clean", "python_installation": False, "folders": [str(folder)], "max_megabytes": 1.0, **changes}
    )


def start(path: Path, job: CleanSpec) -> Run:
    folder = RunFolder(path)
    folder.write_job(Job(id=path.name, spec=job))
    return Run(folder)


def test_documents_and_account_agree(tmp_path: Path) -> None:
    job = spec(corpus(tmp_path / "corpus"))
    run = start(tmp_path / "run", job)
    clean.run(job, run)
    parts = sorted(run.folder.artifact("documents").glob("part-*.jsonl"))
    documents = [record for part in parts for record in read_jsonl(part, Record)]
    result = run.folder.result()
    assert result["documents"] == {"read": 9, "kept": len(documents)}
    assert 9 - len(documents) == sum(result["dropped"].values())
    assert result["dropped"]["too few words"] == 2
    assert result["dropped"]["exact duplicate"] + result["dropped"]["near duplicate"] >= 1
    assert result["examples"]["too few words"][0]["text"] == "short"
    assert result["characters"] == sum(len(document.text) for document in documents)
    assert sum(result["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert {document.language for document in documents} == {"en", "python"}


def test_same_input_same_bytes(tmp_path: Path) -> None:
    job = spec(corpus(tmp_path / "corpus"))
    runs = [start(tmp_path / name, job) for name in ("one", "two")]
    for run in runs:
        clean.run(job, run)
    first, second = (folder_hashes(run.folder.artifact("documents")) for run in runs)
    assert first == second


def test_a_source_is_read_up_to_its_megabytes(tmp_path: Path) -> None:
    job = spec(corpus(tmp_path / "corpus"), max_megabytes=0.004)
    run = start(tmp_path / "run", job)
    clean.run(job, run)
    assert 0 < run.folder.result()["documents"]["read"] < 9


def test_an_empty_outcome_says_what_dropped_everything_and_leaves_nothing(tmp_path: Path) -> None:
    job = spec(corpus(tmp_path / "corpus"), rules={"min_words": 100_000})
    run = start(tmp_path / "run", job)
    with pytest.raises(ValueError, match=r"no document is left of 9 read \(too few words: 9\)"):
        clean.run(job, run)
    assert list(run.folder.artifacts.iterdir()) == []


def test_asked_to_stop_it_leaves_nothing(tmp_path: Path) -> None:
    job = spec(corpus(tmp_path / "corpus"))
    run = start(tmp_path / "run", job)
    run.stop_requested = True
    clean.run(job, run)
    assert list(run.folder.artifacts.iterdir()) == []

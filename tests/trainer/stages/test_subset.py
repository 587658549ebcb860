"""The subset stage: picked documents and an account, by rules and by a trained classifier."""

import json
from pathlib import Path
from random import Random

import pytest

from trainer.artifacts import Run, RunFolder, new_folder, read_jsonl, write_jsonl
from trainer.spec import Job, Record, SubsetSpec
from trainer.stages import subset

RNG = Random(1)
SHIP, FARM = ["mast", "anchor", "harbour", "sail", "captain"], ["plough", "barn", "harvest", "cattle", "orchard"]


def text(words: list[str]) -> str:
    return " ".join(RNG.choices([*words, "the", "of", "old", "new"], k=25))


def record(number: int, source: str, words: list[str]) -> Record:
    meta = {"license": "MIT"}
    return Record(id=f"d{number}", text=text(words), source=source, domain="general", language="en", meta=meta)


def start(home: Path, **fields: object) -> tuple[SubsetSpec, Run]:
    clean = RunFolder(home / "clean")
    documents = [record(number, *(("ship", SHIP) if number % 3 == 0 else ("farm", FARM))) for number in range(60)]
    with new_folder(clean.artifacts / "documents") as parts:
        write_jsonl(parts / "part-000.jsonl", documents[:40])
        write_jsonl(parts / "part-001.jsonl", documents[40:])
    spec = SubsetSpec.model_validate({"name": "ships", "inputs": {"documents": "clean"}, **fields})
    run = RunFolder(home / "subset")
    run.write_job(Job(id="subset", spec=spec, inputs={"documents": str(clean.path)}))
    return spec, Run(run)


def kept(run: Run) -> list[Record]:
    parts = sorted(run.folder.artifact("documents").glob("part-*.jsonl"))
    return [record for part in parts for record in read_jsonl(part, Record)]


def labelled(folder: Path) -> Path:
    path = folder / "examples.jsonl"
    rows = [{"text": text(SHIP if n % 2 else FARM), "label": "ship" if n % 2 else "farm"} for n in range(200)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check(run: Run, by: str) -> None:
    result = run.folder.result()
    documents = kept(run)
    assert {document.source for document in documents} == {"ship"}
    assert result["documents"] == {"read": 60, "kept": len(documents)}
    assert result["by"] == by
    assert result["licenses"] == {"MIT": len(documents)}
    assert all(document.meta["subset"] == "ships" for document in documents)
    assert result["characters"] == sum(len(document.text) for document in documents)


def test_by_rules_measured_on_examples(tmp_path: Path) -> None:
    rules = {"keywords": SHIP, "min_distinct": 2}
    spec, run = start(tmp_path, rules=rules, examples=str(labelled(tmp_path)), positive=["ship"])
    subset.run(spec, run)
    check(run, "rules")
    measured = run.folder.result()["measured"]
    assert measured["examples"] == 200
    assert measured["precision"][0] == 1
    assert measured["recall"][0] > 0.9


def test_by_a_classifier_that_learns_from_examples(tmp_path: Path) -> None:
    spec, run = start(tmp_path, examples=str(labelled(tmp_path)), positive=["ship"])
    subset.run(spec, run)
    check(run, "classifier")
    measured = run.folder.result()["measured"]
    assert 0 < measured["examples"] < 100
    assert measured["precision"][0] > 0.9
    assert measured["recall"][0] > 0.9


def test_by_a_classifier_that_learns_from_a_folder_against_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "ships"
    folder.mkdir()
    for number in range(80):
        (folder / f"{number}.txt").write_text(text(SHIP))
    spec, run = start(tmp_path, folder=str(folder), heldout_share=0.3)
    subset.run(spec, run)
    assert {document.source for document in kept(run)} == {"ship"}


def test_a_subset_of_nothing_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    spec, run = start(tmp_path, rules={"keywords": ["zeppelin"], "min_distinct": 1})
    with pytest.raises(ValueError, match="none of 60 documents"):
        subset.run(spec, run)
    assert not (run.folder.artifacts / "documents").exists()

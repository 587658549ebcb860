"""The knowledge stage and the command that searches what it leaves."""

import json
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.artifacts import Run, RunFolder, folder_hashes, new_folder, write_jsonl
from trainer.spec import Job, KnowledgeSpec, Record
from trainer.stages import knowledge

TEXTS = {
    "a": "Gold is a chemical element with the symbol Au. Miners dug for gold in the hills of the north.",
    "b": "Bread is a staple food. Bakers of the town bake bread before the sun comes up.",
}


def start(folder: Path, texts: dict[str, str]) -> tuple[KnowledgeSpec, Run]:
    clean = RunFolder(folder / "clean")
    with new_folder(clean.artifacts / "documents") as documents:
        rows = [Record(id=id, text=text, source="s", domain="general", language="en") for id, text in texts.items()]
        write_jsonl(documents / "part-000.jsonl", rows)
    spec = KnowledgeSpec(name="knowledge", inputs={"documents": "clean"})
    run = RunFolder(folder / "knowledge")
    run.write_job(Job(id="knowledge", spec=spec, inputs={"documents": str(clean.path)}))
    return spec, Run(run)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["search", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_store_is_built_and_searched_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, run = start(tmp_path, TEXTS)
    knowledge.run(spec, run)
    assert run.folder.result()["documents"] == 2
    assert run.folder.result()["relations"] == {"is a": 2}
    assert "triples.jsonl" in folder_hashes(run.folder.artifact("knowledge"))
    folder = str(run.folder.path)
    capsys.readouterr()
    found = asked(capsys, folder, "who dug gold")
    assert [passage["document"] for passage in found["passages"]] == ["a"]
    assert found["entities"] == ["Gold"]
    assert asked(capsys, folder, "the of")["terms"] == []
    graph = asked(capsys, folder, "gold", "--entity")
    assert graph["entity"] == "Gold"
    assert [(t["object"], t["document"]) for t in graph["triples"]] == [("chemical element", "a")]
    assert asked(capsys, folder, "golden bread", "--entity") == {
        "entity": "golden bread",
        "triples": [],
        "like": ["Bread"],
    }


def test_no_documents_and_no_store_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, run = start(tmp_path, {})
    with pytest.raises(ValueError, match="holds no document"):
        knowledge.run(spec, run)
    assert main(["search", str(run.folder.path), "gold"]) == 1
    assert capsys.readouterr().err.startswith("error: run knowledge left no complete artifact")


def test_a_stopped_run_leaves_nothing(tmp_path: Path) -> None:
    spec, run = start(tmp_path, TEXTS)
    run.stop_requested = True
    knowledge.run(spec, run)
    assert not (run.folder.artifacts / "knowledge").exists()

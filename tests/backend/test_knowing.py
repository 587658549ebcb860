"""Search and graph over HTTP: what the trainer's command finds in a real store, in a process of its own."""

import time
from pathlib import Path
from typing import cast

import pytest
from fastapi import FastAPI

from backend.jobs.tables import JobRow
from tests.backend.conftest import Api
from trainer.artifacts import RunFolder, new_folder
from trainer.data.knowledge import build
from trainer.spec import Record


@pytest.fixture
def store(api: Api, tmp_path: Path) -> str:
    """The id of a knowledge job that ended."""
    text = "Gold is a chemical element with the symbol Au. Miners dug for gold in the hills."
    with new_folder(RunFolder(tmp_path / "run").artifacts / "knowledge") as folder:
        build([Record(id="d", text=text, source="s", domain="general", language="en")], folder)
    add(api, "know", "knowledge", tmp_path / "run")
    return "know"


def add(api: Api, id: str, kind: str, folder: Path) -> None:
    platform = cast(FastAPI, api.client.app).state.platform
    row = JobRow(
        id=id, name=id, kind=kind, spec={"inputs": {}}, sources={}, run_folder=str(folder), created=time.time(),
        state="succeeded",
    )  # fmt: skip
    with platform.database.write() as session:
        session.add(row)


def test_passages_and_graph_are_found(api: Api, store: str) -> None:
    found = api.get(f"/jobs/{store}/search", query="--gold", k=3)
    assert [passage["document"] for passage in found["passages"]] == ["d"]
    assert found["entities"] == ["Gold"]
    graph = api.get(f"/jobs/{store}/graph", entity="GOLD", depth=2)
    assert [(t["subject"], t["relation"], t["object"]) for t in graph["triples"]] == [
        ("Gold", "is a", "chemical element")
    ]
    assert api.get(f"/jobs/{store}/graph", entity="gold", to="Chemical Element")["triples"] == graph["triples"]
    assert api.get(f"/jobs/{store}/graph", entity="nobody")["triples"] == []
    assert api.get(f"/jobs/{store}/search", query="the of")["terms"] == []


def test_what_cannot_be_asked_is_refused_in_a_sentence(api: Api, store: str, tmp_path: Path) -> None:
    add(api, "clean", "clean", tmp_path)
    add(api, "gone", "knowledge", tmp_path / "gone")
    for path, status, told in (
        ("/jobs/clean/search?query=a", 422, "has no store"),
        ("/jobs/gone/search?query=a", 422, "left no complete artifact"),
        ("/jobs/none/search?query=a", 404, "none"),
        (f"/jobs/{store}/search?query=", 422, "query"),
        (f"/jobs/{store}/graph?entity=a&depth=9", 422, "depth"),
    ):
        answer = api.client.get(path)
        assert answer.status_code == status, answer.text
        assert told in answer.json()["error"]["message"]

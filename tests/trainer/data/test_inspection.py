"""The X-ray of a row: what it shows is what was packed, and the steps it names are those that drew the row."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trainer import tiny
from trainer.artifacts import Run, RunFolder, new_folder, read_jsonl, write_jsonl
from trainer.data.drawn_command import rows_of_step
from trainer.data.inspection import VERIFIED, inspect
from trainer.data.packing import ARRAYS, ORIGINS
from trainer.data.rows import Batch, Rows
from trainer.data.sources import record
from trainer.data.synthesis import Generator
from trainer.data.tokenizer import Tokenizer
from trainer.spec import DOMAINS, Record, SftSpec, TokenizeSpec
from trainer.stages import sft, tokenize

CODE = "\n\n".join(f"def area_{i}(width, height):\n    return width * height + {i}" for i in range(8))
PROSE = " ".join(f"Number {i} of the harbour books says that the ice came early in that year." for i in range(9))
RULES = {"too few words": 3, "near duplicate": 0}
PHASES = [
    {"phase": "text", "share": 0.4, "mix": {"text": 1.0}},
    {"phase": "dialogue", "share": 0.6, "mix": {"text": 0.3, "completion": 0.2, "dialogue": 0.5}},
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    path = tmp_path_factory.mktemp("runs")
    clean, synthesized = RunFolder(path / "clean"), RunFolder(path / "synthesize")
    documents = [
        record(CODE.replace("area", f"area_{n}"), "programs", "code", "python", license="MIT", path=f"{n}.py")
        for n in range(6)
    ]
    documents += [record(PROSE.replace("harbour", f"harbour {n}"), "books", "general", "en") for n in range(6)]
    with new_folder(clean.artifacts / "documents") as folder:
        write_jsonl(folder / "part-000.jsonl", documents[:3])
        write_jsonl(folder / "part-001.jsonl", documents[3:])
    clean.write_result({"dropped": RULES})
    with new_folder(synthesized.artifacts / "problems") as folder:
        write_jsonl(folder / "train.jsonl", Generator(tiny.EASY, (1,), 0).problems("train", 60))
    run = tiny.new_run(
        path / "tokenize",
        {"kind": "tokenize", "name": "t", "vocab_size": 320, "context": 160},
        {"documents": clean, "problems": synthesized},
    )
    spec = run.folder.job().spec
    assert isinstance(spec, TokenizeSpec)
    tokenize.run(spec, run)
    return run.folder


def rows_of(dataset: RunFolder, source: str, split: str = "train") -> dict[str, NDArray[Any]]:
    folder = dataset.artifact("tokens") / source / split
    return {name: np.load(folder / f"{name}.npy") for name in ARRAYS}


@pytest.mark.parametrize("source", ["text", "completion", "dialogue"])
def test_every_row_shows_its_tokens_and_what_they_are_of(dataset: RunFolder, source: str) -> None:
    tokenizer = Tokenizer.load(dataset.artifact("tokenizer"))
    arrays = rows_of(dataset, source)
    for row in range(len(arrays["tokens"])):
        found = inspect(dataset, source, "train", row)
        held = arrays["segments"][row] > 0
        tokens = found["tokens"]
        assert [token["id"] for token in tokens] == arrays["tokens"][row][held].tolist()
        assert [token["counts"] for token in tokens] == arrays["loss_mask"][row][held].tolist()
        assert [token["segment"] for token in tokens] == arrays["segments"][row][held].tolist()
        assert [DOMAINS.index(token["domain"]) for token in tokens] == arrays["domains"][row][held].tolist()
        plain = [token["text"] for token in tokens if token["id"] not in tokenizer.special_ids.values()]
        assert "".join(plain) == tokenizer.decode([t["id"] for t in tokens]).replace("<think>", "").replace(
            "</think>", ""
        )
        place = 0
        for document in found["documents"]:
            mine = tokens[place : place + document["length"]]
            assert {token["segment"] for token in mine} == {document["segment"]}
            assert document["kind"] == source
            place += document["length"]
            if source == "dialogue":
                assert (document["source"], document["rules_passed"]) == ("problems", [VERIFIED])
                assert document["meta"]["level"] == 1
            elif document["source"] == "programs":
                assert (document["license"], document["language"], document["rules_passed"]) == (
                    "MIT", "python", [*RULES],
                )  # fmt: skip
                assert document["meta"]["path"].endswith(".py")
            else:
                assert (document["source"], document["license"], document["language"]) == ("books", None, "en")
        assert place == len(tokens)


def test_a_text_row_holds_the_tokens_of_its_documents_that_it_says(dataset: RunFolder) -> None:
    tokenizer = Tokenizer.load(dataset.artifact("tokenizer"))
    paths = RunFolder(dataset.job().inputs["documents"]).artifact("documents").glob("*.jsonl")
    texts = {record.id: record.text for path in paths for record in read_jsonl(path, Record)}
    for row in range(len(rows_of(dataset, "text")["tokens"])):
        found = inspect(dataset, "text", "train", row)
        told: list[int] = []
        for document in found["documents"]:
            whole = tokenizer.encode_document(tokenizer.encode(texts[document["id"]]))
            told += whole[document["start"] :][: document["length"]]
        assert told == [token["id"] for token in found["tokens"]]


class Watched(Rows):
    """Rows that remember which of them each call took."""

    def __init__(self, rows: Rows, log: list[tuple[str, list[int]]], name: str) -> None:
        self.arrays, self._log, self._name = rows.arrays, log, name

    def take(self, rows: NDArray[np.int64]) -> Batch:
        self._log.append((self._name, rows.tolist()))
        return super().take(rows)


def train(dataset: RunFolder, path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int | None = None) -> Any:
    """A real fine-tuning, begun again where it dies; returns its folder and {(source, row): the steps it was in}."""
    taken: dict[tuple[str, int], list[int]] = defaultdict(list)
    log: list[tuple[str, list[int]]] = []
    original_draw, original_open, original_add = sft.draw, sft.open_rows, sft.DrawRecord.add

    def draw(*arguments: Any) -> Batch:
        log.clear()
        return original_draw(*arguments)

    def add(self: Any, step: int, *more: Any) -> None:
        if step == dies_at and not path.with_name("died").exists():
            path.with_name("died").touch()
            raise KeyboardInterrupt
        original_add(self, step, *more)
        for steps in taken.values():  # a step that is taken again
            steps[:] = [earlier for earlier in steps if earlier < step]
        for name, rows in list(log):
            for row in rows:
                taken[name, row].append(step)

    def open_watched(tokens: Path, split: str) -> dict[str, Rows]:
        rows = original_open(tokens, split)
        return {name: Watched(rows[name], log, name) for name in rows} if split == "train" else rows  # type: ignore[misc]

    monkeypatch.setattr(sft, "draw", draw)
    monkeypatch.setattr(sft, "open_rows", open_watched)
    monkeypatch.setattr(sft.DrawRecord, "add", add)
    shape = tiny.config(vocab_size=320, max_position_embeddings=160).model_dump()
    spec = {
        "kind": "sft", "name": "s", "model": shape, "steps": 23, "batch_rows": 5, "compile": False, "phases": PHASES,
        "optimizer": {"lr": 1e-3}, "snapshot_every": 4, "syntax_penalty": {"every": 100}, "seed": 3,
    }  # fmt: skip
    run = tiny.new_run(path, spec, {"dataset": dataset})
    parsed = run.folder.job().spec
    assert isinstance(parsed, SftSpec)
    if dies_at is not None:
        with pytest.raises(KeyboardInterrupt):
            sft.run(parsed, run)
        run = Run(run.folder)
    sft.run(parsed, run)
    monkeypatch.undo()
    return run.folder, taken


@pytest.mark.parametrize("dies_at", [None, 18])
def test_the_steps_it_names_are_those_in_which_a_run_drew_the_row(
    dataset: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int | None
) -> None:
    training, taken = train(dataset, tmp_path / "sft", monkeypatch, dies_at)
    counts = {source: len(rows_of(dataset, source)["tokens"]) for source in ("text", "completion", "dialogue")}
    assert sum(len(steps) for steps in taken.values()) == 23 * 5
    for source, count in counts.items():
        for row in range(count):
            drawn = inspect(dataset, source, "train", row, training)["drawn"]
            assert [draw["step"] for draw in drawn] == taken.get((source, row), [])
            assert all(draw["phase"] == ("text" if draw["step"] <= 10 else "dialogue") for draw in drawn)
    assert any(len(steps) > 1 for steps in taken.values())
    drawn_by_step = {step: rows_of_step(training, step)["rows"] for step in range(1, 24)}
    found = sorted(
        (source, row, step) for step, rows in drawn_by_step.items() for source in rows for row in rows[source]
    )
    assert found == sorted((source, row, step) for (source, row), steps in taken.items() for step in steps)
    with pytest.raises(ValueError, match="no record of step 24"):
        rows_of_step(training, 24)
    metrics = [json.loads(line) for line in training.metrics_file.read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line["values"]] == list(range(1, 24))
    seen = dict.fromkeys(DOMAINS, 0)
    for (source, row), steps in taken.items():
        for index in rows_of(dataset, source)["domains"][row].tolist():
            if index >= 0:
                seen[DOMAINS[index]] += len(steps)
    assert training.result()["tokens_seen"] == seen
    assert sum(training.result()["shares_seen"].values()) == pytest.approx(1, abs=1e-3)


def test_what_is_not_there_is_named(dataset: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are completion, dialogue, text"):
        inspect(dataset, "poetry", "train", 0)
    with pytest.raises(ValueError, match="row 100000 does not exist: the train rows of 'text' are 0 to"):
        inspect(dataset, "text", "train", 100_000)
    other = tiny.tokenized_run(tmp_path / "other")
    training = tiny.new_run(
        tmp_path / "sft",
        {"kind": "sft", "name": "s", "model": tiny.config().model_dump(), "steps": 1, "optimizer": {"lr": 1e-3}},
        {"dataset": other},
    ).folder
    with pytest.raises(ValueError, match="run sft was not trained on the rows of run tokenize"):
        inspect(dataset, "text", "train", 0, training)
    with pytest.raises(ValueError, match="made before rows knew their origins"):
        inspect(other, "text", "train", 0, training)
    other.write_job(dataset.job())
    (other.artifact("tokens") / "text" / "train" / ORIGINS).write_text('{"row": 0, "pieces": []}\n')
    with pytest.raises(ValueError, match="has no record of the rows it drew"):
        inspect(other, "text", "train", 0, training)


def test_the_command_prints_json_and_loads_no_torch(dataset: RunFolder) -> None:
    arguments = [str(dataset.path), "--source", "text", "--split", "heldout", "--row", "0"]
    command = [sys.executable, "-m", "trainer", "inspect", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == inspect(dataset, "text", "heldout", 0)
    failed = subprocess.run([*command[:-1], "9999"], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "row 9999 does not exist" in failed.stderr
    check = "import sys, trainer.data.inspection; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0

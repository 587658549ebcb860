"""Data sets in the hub's layout, from local copies: a real `datasets`, streaming, and mistakes named at once."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from tests.trainer.data.reading import all_of, opened, read
from trainer.spec import Record

ROWS = [{"q": f"question {n}", "a": n, "license": "MIT"} for n in range(40)]
TEMPLATE = {"text_fields": ["{q}: {a}"]}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def files_of(folder: Path) -> dict[str, Any]:
    """The layout of a repository: a file a shard."""
    folder.mkdir()
    for shard in range(2):
        lines = [json.dumps(row) for row in ROWS[shard * 20 : shard * 20 + 20]]
        (folder / f"train-{shard}.jsonl").write_text("\n".join(lines))
    return {"name": str(folder)}


def saved(folder: Path) -> dict[str, Any]:
    DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(folder)
    return {"name": str(folder)}


@pytest.mark.parametrize("make", [files_of, saved])
def test_every_row_comes_once_with_its_origin(tmp_path: Path, make: Any) -> None:
    wanted = make(tmp_path / "questions") | {"rows": TEMPLATE}
    records, skipped = read(hugging_face=[wanted])
    assert not skipped
    assert sorted(one.text for one in records) == sorted(f"{row['q']}: {row['a']}" for row in ROWS)
    assert {one.source for one in records} == {"questions"}
    assert {one.meta["license"] for one in records} == {"MIT"}
    assert read(hugging_face=[wanted]) == (records, skipped)


def test_a_shard_is_a_unit(tmp_path: Path) -> None:
    (source,) = opened(hugging_face=[files_of(tmp_path / "questions") | {"rows": TEMPLATE}])
    counts = [sum(isinstance(one, Record) for one in unit.read()) for unit in source.units]
    assert counts == [20, 20]


def test_a_missing_field_is_counted_row_by_row(tmp_path: Path) -> None:
    (source,) = opened(hugging_face=[files_of(tmp_path / "questions")])
    assert len(list(all_of(source))) == 40
    assert not any(isinstance(one, Record) for one in all_of(source))


@pytest.mark.parametrize("wrong", [{"name": "nobody/nothing"}, {"split": "absent"}, {"config": "absent"}])
def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path, wrong: dict[str, str]) -> None:
    wanted = files_of(tmp_path / "questions") | wrong
    with pytest.raises(ValueError, match=r"^hugging_face: .* cannot be opened \(.*\); check its name"):
        opened(hugging_face=[wanted])

"""The key for reuse changes exactly with what can change a result."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.jobs.reuse import content_key, is_intact, reuse_key, source_hash
from trainer.artifacts import Run, RunFolder, new_folder
from trainer.spec import CleanSpec, ImportSpec, SynthesizeSpec


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    files = {
        "trainer/__init__.py": "",
        "trainer/stages/__init__.py": "",
        "trainer/stages/tiny.py": "from trainer import helper\nimport json\n",
        "trainer/helper.py": "def work():\n    from .data.rules import rule\n",
        "trainer/data/__init__.py": "",
        "trainer/data/rules.py": "from . import words\n",
        "trainer/data/words.py": "import trainer.helper\n",
        "trainer/unrelated.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["stages/tiny", "stages/__init__", "helper", "data/__init__", "data/rules", "data/words"]
)
def test_a_changed_module_that_the_stage_reaches_changes_the_source_hash(sources: Path, name: str) -> None:
    before = source_hash("trainer.stages.tiny", sources)
    assert source_hash("trainer.stages.tiny", sources) == before
    with open(sources / f"trainer/{name}.py", "a") as file:
        file.write("# changed\n")
    assert source_hash("trainer.stages.tiny", sources) != before


def test_a_module_the_stage_does_not_reach_changes_nothing(sources: Path) -> None:
    before = source_hash("trainer.stages.tiny", sources)
    (sources / "trainer/unrelated.py").write_text("changed = True\n")
    assert source_hash("trainer.stages.tiny", sources) == before
    with pytest.raises(ValueError, match=r"trainer\.stages\.missing"):
        source_hash("trainer.stages.missing", sources)


def test_many_threads_may_look_at_once() -> None:
    """The reaper and requests do; parsing in two threads is where CPython 3.11 fails."""
    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(lambda _: source_hash("trainer.stages.sft"), range(24)))
    assert len(set(hashes)) == 1


def test_name_does_not_matter_and_spec_and_inputs_do() -> None:
    spec = SynthesizeSpec(name="a")
    key = reuse_key(spec, {"x": "1"})
    assert reuse_key(SynthesizeSpec(name="b"), {"x": "1"}) == key
    assert reuse_key(SynthesizeSpec(name="a", seed=1), {"x": "1"}) != key
    assert reuse_key(spec, {"x": "2"}) != key


def test_a_changed_folder_changes_the_key_of_a_clean_job(tmp_path: Path) -> None:
    spec = CleanSpec(name="clean", folders=(str(tmp_path),))
    (tmp_path / "a.txt").write_text("one")
    before = reuse_key(spec, {})
    assert reuse_key(spec, {}) == before
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("two")
    assert reuse_key(spec, {}) != before


def test_a_changed_file_of_a_checkpoint_changes_the_key_of_an_import_job(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for source in (tmp_path, tmp_path / "config.json"):
        spec = ImportSpec(name="import", source=str(source))
        before = reuse_key(spec, {})
        assert reuse_key(spec, {}) == before
        (tmp_path / "config.json").write_text(f'{{"changed": "{source.name}"}}')
        assert reuse_key(spec, {}) != before


def test_a_run_is_intact_only_while_its_files_are_there_and_unchanged(tmp_path: Path) -> None:
    run = Run(RunFolder(tmp_path / "run"))
    with new_folder(run.folder.artifacts / "problems") as folder:
        (folder / "train.jsonl").write_text("{}")
    key = content_key(run.folder.path)
    assert not is_intact(run.folder.path, key), "it is still running"
    run.finish("succeeded")
    assert is_intact(run.folder.path, key)
    with new_folder(run.folder.volatile / "step_000001") as folder:
        (folder / "state").write_text("")
    assert is_intact(run.folder.path, key), "snapshots are no result"
    assert not is_intact(run.folder.path, "another")
    (run.folder.artifacts / "problems" / "train.jsonl").unlink()
    assert not is_intact(run.folder.path, key)

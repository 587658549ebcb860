"""A folder behind a URL reads as the same folder on disk."""

import gzip
import json
from pathlib import Path

import pytest

from backend.jobs.reuse import reuse_key
from tests.s3 import s3, s3_server  # noqa: F401 - fixtures
from trainer.data.sources import Found, Skipped, open_sources
from trainer.remote import Remote
from trainer.spec import CleanSpec


def spec(place: str) -> CleanSpec:
    return CleanSpec(name="clean", python_installation=False, folders=(place,))


def found_in(place: str) -> list[Found]:
    return [found for source in open_sources(spec(place)) for unit in source.units for found in unit.read()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    (folder / "more").mkdir(parents=True)
    (folder / "one.txt").write_text("The harbour master wrote down every ship.")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "more" / "code.py").write_text("value = 1\n")
    lines = [json.dumps({"text": f"Row {number}."}) for number in range(3)] + ["{broken"]
    with gzip.open(folder / "more" / "rows.jsonl.gz", "wt") as file:
        file.write("\n".join(lines))
    return folder


@pytest.fixture
def url(corpus: Path, s3: str) -> str:  # noqa: F811
    remote = Remote(f"{s3}/texts")
    for path in corpus.rglob("*"):
        if path.is_file():
            remote.upload(path, path.relative_to(corpus).as_posix())
    return remote.url


def test_a_bucket_gives_the_records_and_skips_of_the_folder_it_was_made_from(corpus: Path, url: str) -> None:
    near, far = found_in(str(corpus)), found_in(url)
    assert far == near
    assert sorted(found.reason for found in far if isinstance(found, Skipped)) == [
        "kind of file not read",
        "row is not JSON",
    ]


def test_what_is_not_there_is_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="/none holds no file of a kind that is read"):
        open_sources(spec(f"{url}/none"))


def test_a_changed_file_behind_a_url_changes_the_key_of_a_clean_job(url: str, corpus: Path) -> None:
    before = reuse_key(spec(url), {})
    assert reuse_key(spec(url), {}) == before
    (corpus / "one.txt").write_text("The harbour master wrote down no ship at all.")
    Remote(url).upload(corpus / "one.txt", "one.txt")
    assert reuse_key(spec(url), {}) != before

"""Files at a URL, on a local S3-compatible server and in memory."""

from pathlib import Path

import pytest

from tests.s3 import s3, s3_server  # noqa: F401 - fixtures
from trainer.remote import Remote


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.getfixturevalue('s3')}/texts" if request.param == "s3" else f"memory://{tmp_path.name}"


def test_what_was_uploaded_is_listed_and_comes_back(url: str, tmp_path: Path) -> None:
    remote = Remote(url)
    (tmp_path / "near").write_bytes(b"hello")
    for name in ("b/two.txt", "a.txt", "b/one.txt"):
        remote.upload(tmp_path / "near", name)
    assert [(file.name, file.bytes) for file in remote.files()] == [("a.txt", 5), ("b/one.txt", 5), ("b/two.txt", 5)]
    assert [file.name for file in remote.files("b")] == ["b/one.txt", "b/two.txt"]
    assert remote.exists("b/one.txt")
    assert not remote.exists("b/three.txt")
    remote.download("b/two.txt", tmp_path / "back" / "two.txt")
    assert (tmp_path / "back" / "two.txt").read_bytes() == b"hello"
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["two.txt"]


def test_a_changed_file_has_another_version(url: str, tmp_path: Path) -> None:
    remote = Remote(url)
    versions = []
    for text in ("one", "two"):
        (tmp_path / "near").write_text(text)
        remote.upload(tmp_path / "near", "a.txt")
        versions.append(remote.files()[0].version)
    assert versions[0] != versions[1]


def test_nothing_is_listed_where_nothing_is(url: str) -> None:
    assert Remote(url).files("none") == []


def test_a_missing_file_and_an_unknown_protocol_say_so(url: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Remote(url).download("none.txt", tmp_path / "none.txt")
    assert not (tmp_path / "none.txt").exists()
    with pytest.raises(ValueError, match="nosuch://bucket cannot be opened"):
        Remote("nosuch://bucket")

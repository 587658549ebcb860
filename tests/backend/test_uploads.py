"""Uploads: whole or not there, resumable, safe names, limits, and read by a clean job."""

import io
from pathlib import Path

import pytest

from backend.errors import Invalid
from backend.settings import Settings
from backend.uploads.service import safe_name
from dashboard.client import Client, ClientError
from tests.backend.conftest import Api, answers, eventually, free_port, make_settings, process, running_api
from tests.backend.test_app import message_of

CONTENT = b'{"text": "a row"}\n' * 100


def begin(api: Api, name: str = "rows.jsonl", size: int = len(CONTENT)) -> str:
    return str(api.post("/uploads", {"name": name, "bytes": size})["id"])


def send(api: Api, upload: str, content: bytes, offset: int = 0) -> dict:
    answer = api.client.put(f"/uploads/{upload}", params={"offset": offset}, content=content)
    assert answer.is_success, answer.text
    return answer.json()


def stored(api: Api, upload: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (api.settings.home / "uploads" / upload).iterdir()}


def test_a_file_sent_in_parts_is_there_once_it_is_whole(api: Api) -> None:
    upload = begin(api)
    assert send(api, upload, CONTENT[:700])["received"] == 700
    assert "rows.jsonl" not in stored(api, upload)
    # What goes on is where the listing says, so a page that was closed can go on.
    [listed] = api.get("/uploads")
    assert (listed["received"], listed["bytes"], listed["user"]) == (700, len(CONTENT), "admin")
    assert send(api, upload, CONTENT[700:], offset=listed["received"])["received"] == len(CONTENT)
    assert stored(api, upload)["rows.jsonl"] == CONTENT
    assert set(stored(api, upload)) == {"rows.jsonl", "upload.json"}


def test_only_what_comes_next_is_taken(api: Api) -> None:
    upload = begin(api)
    send(api, upload, CONTENT[:100])
    for offset in (0, 50, 101):
        answer = api.client.put(f"/uploads/{upload}", params={"offset": offset}, content=b"x")
        assert "go on with offset=100" in message_of(answer, 409)
    answer = api.client.put(f"/uploads/{upload}", params={"offset": 100}, content=CONTENT)
    assert "more is sent than" in message_of(answer, 422)
    assert api.get(f"/uploads/{upload}")["received"] == 100
    send(api, upload, CONTENT[100:], offset=100)
    answer = api.client.put(f"/uploads/{upload}", params={"offset": len(CONTENT)}, content=b"x")
    assert "whole already" in message_of(answer, 409)


def test_what_is_too_large_is_refused_before_it_is_sent(tmp_path: Path, broker_port: int) -> None:
    with running_api(make_settings(tmp_path / "home", broker_port, upload_megabytes=1)) as api:
        answer = api.client.post("/uploads", json={"name": "a.jsonl", "bytes": 1_000_001})
        assert "OCTAVO_UPLOAD_MEGABYTES" in message_of(answer, 422)
        assert api.get("/uploads") == []


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("corpus.jsonl.gz", "corpus.jsonl.gz"),
        ("../../etc/passwd", "passwd"),
        ("C:\\texts\\my corpus.txt", "my_corpus.txt"),
        (".hidden", "hidden"),
        ("Übung 1 (neu).txt", "Übung_1_(neu).txt"),
        ("a\0b\nc.txt", "a_b_c.txt"),
        ("x" * 300 + ".txt", "x" * 96 + ".txt"),
    ],
)
def test_names_are_made_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@pytest.mark.parametrize("name", ["", "..", "/", "...", "upload.json", "a/part"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="no name for a file"):
        safe_name(name)


def test_uploads_are_deleted_unless_a_job_reads_them(api: Api) -> None:
    upload = begin(api)
    spec = {"kind": "clean", "name": "clean", "uploads": [upload], "python_installation": False}
    assert "is not whole" in message_of(api.client.post("/jobs", json=spec), 409)
    send(api, upload, CONTENT)
    job = api.post("/jobs", spec)
    assert job["spec"]["uploads"] == [str(api.settings.home / "uploads" / upload / "rows.jsonl")]
    assert "job 'clean' reads this upload" in message_of(api.client.delete(f"/uploads/{upload}"), 409)
    api.post(f"/jobs/{job['id']}/cancel")
    # A spec that was submitted before can be submitted again as it is.
    again = api.post("/jobs", job["spec"] | {"name": "again"})
    assert again["spec"]["uploads"] == job["spec"]["uploads"]
    api.post(f"/jobs/{again['id']}/cancel")
    assert api.client.delete(f"/uploads/{upload}").status_code == 204
    assert api.get("/uploads") == []
    assert not (api.settings.home / "uploads" / upload).exists()


@pytest.mark.parametrize("upload", ["0123456789ab", "..", "../../etc", "a/b", "/etc/passwd"])
def test_what_is_no_upload_is_not_found(api: Api, upload: str) -> None:
    spec = {"kind": "clean", "name": "clean", "uploads": [upload]}
    assert "no upload" in message_of(api.client.post("/jobs", json=spec), 404)
    assert api.client.get(f"/uploads/{upload}").status_code == 404


def test_a_labeller_may_not_upload(api: Api) -> None:
    user = api.post("/users", {"name": "rater", "role": "labeller"})
    answer = api.client.post(
        "/uploads", json={"name": "a", "bytes": 1}, headers={"Authorization": f"Bearer {user['key']}"}
    )
    assert "role" in message_of(answer, 403)


def test_the_dashboards_client_sends_in_parts_and_goes_on_where_it_broke_off(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboard.client.UPLOAD_PART_BYTES", 1_000)
    settings = make_settings(settings.home, settings.broker_port, backend_port=free_port())
    url = f"http://127.0.0.1:{settings.backend_port}"
    with process("backend", settings):
        eventually(lambda: answers(settings.backend_port))
        client = Client(url, url, (settings.home / "admin_key").read_text().strip())
        steps = client.upload("rows.jsonl", len(CONTENT), io.BytesIO(CONTENT))
        assert next(steps).received == 1_000
        steps.close()  # as when the page is left
        [begun] = client.uploads()
        assert [step.received for step in client.resume_upload(begun, io.BytesIO(CONTENT))] == [len(CONTENT)]
        assert (settings.home / "uploads" / begun.id / "rows.jsonl").read_bytes() == CONTENT
        client.delete_upload(begun.id)
        assert client.uploads() == []
        with pytest.raises(ClientError, match="ends before the 5 bytes"):
            list(client.upload("short.txt", 5, io.BytesIO(b"")))

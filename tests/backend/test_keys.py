"""Keys: further ones, limits, consent, and their end, as the API and serving.json show it."""

import hashlib
import json
import time
from typing import Any

from alembic import command
from fastapi.testclient import TestClient
from sqlalchemy import text

from backend.db import Database
from backend.schema import _config, migrate
from serving.deployments import ServingFile
from tests.backend.conftest import Api


def served_keys(api: Api) -> dict[str, dict[str, Any]]:
    content = json.loads((api.settings.home / "serving.json").read_text())
    return {key["id"]: key for key in content["keys"]}


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def new_member(api: Api, name: str) -> tuple[str, str, str]:
    """Of a new member: their id, their key and its id."""
    user = api.post("/users", {"name": name, "role": "member"})
    [key] = api.client.get("/keys", headers=headers(user["key"])).json()
    return user["id"], user["key"], key["id"]


def test_a_revoked_key_opens_nothing_at_once_and_another_of_the_user_still_does(api: Api) -> None:
    user, leaked, leaked_id = new_member(api, "ann")
    fresh = api.post(f"/users/{user}/keys")
    assert {leaked_id, fresh["id"]} <= served_keys(api).keys()
    assert api.client.delete(f"/keys/{leaked_id}").status_code == 204
    assert api.client.get("/me", headers=headers(leaked)).status_code == 401
    assert api.client.get("/me", headers=headers(fresh["key"])).json()["name"] == "ann"
    assert leaked_id not in served_keys(api)
    [revoked, _] = api.client.get("/keys", headers=headers(fresh["key"])).json()
    assert revoked["id"] == leaked_id
    assert 0 <= time.time() - revoked["revoked"] < 60
    assert api.client.delete(f"/keys/{leaked_id}").status_code == 204, "again changes nothing"
    assert api.get("/keys")[1]["revoked"] == revoked["revoked"]


def test_limits_reach_serving_and_what_is_left_out_stays(api: Api) -> None:
    _, _, key = new_member(api, "ann")
    assert served_keys(api)[key]["requests_per_minute"] is None
    api.client.patch(f"/keys/{key}", json={"requests_per_minute": 60, "tokens_per_minute": 9_000}).raise_for_status()
    changed = api.client.patch(f"/keys/{key}", json={"tokens_per_minute": None}).json()
    assert (changed["requests_per_minute"], changed["tokens_per_minute"]) == (60, None)
    assert (served_keys(api)[key]["requests_per_minute"], served_keys(api)[key]["tokens_per_minute"]) == (60, None)
    assert api.client.patch(f"/keys/{key}", json={"requests_per_minute": 0}).status_code == 422


def test_consent_is_the_owners_limits_are_an_admins(api: Api) -> None:
    _, ann, key = new_member(api, "ann")
    _, ben, _ = new_member(api, "ben")
    assert api.client.patch(f"/keys/{key}", json={"keep_chats": True}).status_code == 403
    assert api.client.patch(f"/keys/{key}", json={"requests_per_minute": 5}, headers=headers(ann)).status_code == 403
    assert not served_keys(api)[key]["keep_chats"]
    assert api.client.patch(f"/keys/{key}", json={"keep_chats": True}, headers=headers(ann)).is_success
    assert served_keys(api)[key]["keep_chats"]
    for method, path in (("DELETE", f"/keys/{key}"), ("PATCH", f"/keys/{key}")):
        assert api.client.request(method, path, json={}, headers=headers(ben)).status_code == 403
    assert {row["user"] for row in api.client.get("/keys", headers=headers(ben)).json()} == {"ben"}


def test_the_last_key_of_an_admin_cannot_be_revoked(api: Api) -> None:
    [own] = api.get("/keys")
    answer = api.client.delete(f"/keys/{own['id']}")
    assert answer.status_code == 409
    assert "make another one first" in answer.json()["error"]["message"]
    second = api.post(f"/users/{api.get('/me')['id']}/keys")
    assert api.client.delete(f"/keys/{own['id']}").status_code == 204
    assert api.client.get("/me", headers=headers(second["key"])).is_success
    assert api.client.get("/me").status_code == 401


def test_serving_reads_what_the_backend_writes(api: Api) -> None:
    _, secret, key = new_member(api, "ann")
    api.client.patch(f"/keys/{key}", json={"tokens_per_minute": 7}).raise_for_status()
    file = ServingFile.model_validate_json((api.settings.home / "serving.json").read_text())
    [found] = [entry for entry in file.keys if entry.id == key]
    assert (found.tokens_per_minute, found.requests_per_minute, found.keep_chats) == (7, None, False)
    assert found.sha256 == hashlib.sha256(secret.encode()).hexdigest()


def test_unknown_keys_and_users_are_said_to_be(api: Api) -> None:
    client: TestClient = api.client
    assert client.delete("/keys/none").status_code == 404
    assert client.patch("/keys/none", json={}).status_code == 404
    assert client.post("/users/none/keys").status_code == 404


def test_keys_made_before_there_were_limits_stay_without(database_url: str, tmp_path: Any) -> None:
    database, config = Database(database_url or f"sqlite:///{tmp_path}/old.db"), _config()
    with database.connection() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO users (id, name, role, created) VALUES ('u', 'ann', 'member', 1)"))
        connection.execute(text("INSERT INTO keys (id, user_id, sha256, created) VALUES ('k', 'u', 'abc', 1)"))
    migrate(database)
    columns = "id, sha256, revoked, requests_per_minute, tokens_per_minute, keep_chats"
    with database.read() as session:
        [row] = session.execute(text(f"SELECT {columns} FROM keys"))
    assert tuple(row)[:5] == ("k", "abc", None, None, None)
    assert not row.keep_chats
    database.close()

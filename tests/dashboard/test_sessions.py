import time

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard.sessions import COOKIE, LIFETIME_S, TICKET_S, Sessions, session_routes, sessions


def test_a_ticket_buys_its_token_once() -> None:
    known = Sessions()
    login, ticket = known.open("key")
    assert known.waiting(ticket)
    assert known.claim(ticket) == login.token
    assert not known.waiting(ticket)
    assert known.claim(ticket) is None
    assert known.find(login.token) is login


def test_neither_the_ticket_nor_the_key_is_a_token() -> None:
    known = Sessions()
    _, ticket = known.open("key")
    assert known.find(ticket) is known.find("key") is known.find(None) is known.find("") is None


def test_a_closed_login_is_gone() -> None:
    known = Sessions()
    login, _ = known.open("key")
    known.close(login.token)
    assert known.find(login.token) is None


def test_logins_and_tickets_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Sessions()
    now = time.time()
    login, ticket = known.open("key")
    monkeypatch.setattr("dashboard.sessions.time.time", lambda: now + TICKET_S + 1)
    assert known.claim(ticket) is None
    monkeypatch.setattr("dashboard.sessions.time.time", lambda: now + LIFETIME_S + 1)
    assert known.find(login.token) is None


def test_the_cookie_cannot_be_read_by_scripts_or_sent_from_elsewhere() -> None:
    browser = TestClient(Starlette(routes=session_routes()))
    login, ticket = sessions().open("key")
    answered = browser.post("/session", content=ticket)
    assert answered.status_code == 204
    cookie = answered.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={login.token};")
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert "key" not in cookie.split(";")[0].split("=")[0]
    assert browser.post("/session", content=ticket).status_code == 403

"""Who is logged in, so that a refresh keeps the login while the API key never leaves this process.

The browser holds a random token in a cookie that no script can read; the key it stands for stays in memory here. A
Streamlit script cannot set such a cookie, so it hands the page a ticket, good for one use, that the page posts to
`/session`; the answer sets the cookie. A restart of the dashboard forgets the logins.
"""

import secrets
import threading
import time
from dataclasses import dataclass, field
from functools import cache

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dashboard.schemas import Turn

COOKIE = "octavo_session"
LIFETIME_S = 30 * 24 * 3600.0
TICKET_S = 120.0


@dataclass
class Login:
    """One browser's login, and what it keeps over a refresh that no API keeps."""

    key: str
    token: str
    expires: float
    conversation: list[Turn] = field(default_factory=list)
    other: list[Turn] = field(default_factory=list)  # with the second model, when two are compared


class Sessions:
    """Logins by token, and tickets that wait to be turned into a cookie. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logins: dict[str, Login] = {}
        self._tickets: dict[str, tuple[str, float]] = {}

    def open(self, key: str) -> tuple[Login, str]:
        """Start a login; returns it with the ticket that buys its cookie once."""
        now = time.time()
        login = Login(key, secrets.token_urlsafe(32), now + LIFETIME_S)
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._forget_expired(now)
            self._logins[login.token] = login
            self._tickets[ticket] = (login.token, now + TICKET_S)
        return login, ticket

    def claim(self, ticket: str) -> str | None:
        """The token a ticket buys; None when it is unknown, used or too old."""
        with self._lock:
            token, expires = self._tickets.pop(ticket, (None, 0.0))
            return token if expires > time.time() else None

    def waiting(self, ticket: str) -> bool:
        with self._lock:
            return ticket in self._tickets

    def find(self, token: str | None) -> Login | None:
        with self._lock:
            login = self._logins.get(token or "")
            return login if login and login.expires > time.time() else None

    def close(self, token: str) -> None:
        with self._lock:
            self._logins.pop(token, None)

    def _forget_expired(self, now: float) -> None:
        self._logins = {token: login for token, login in self._logins.items() if login.expires > now}
        self._tickets = {ticket: item for ticket, item in self._tickets.items() if item[1] > now}


@cache
def sessions() -> Sessions:
    """The logins of this process; the route and the scripts must see the same ones."""
    return Sessions()


async def claim_cookie(request: Request) -> Response:
    """POST /session with a ticket as the body: 204 and the cookie, or 403."""
    token = sessions().claim((await request.body()).decode("ascii", errors="replace"))
    if token is None:
        return Response(status_code=403)
    response = Response(status_code=204)
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, token, max_age=int(LIFETIME_S), httponly=True, samesite="strict", secure=secure)
    return response


def session_routes() -> list[BaseRoute]:
    return [Route("/session", claim_cookie, methods=["POST"])]

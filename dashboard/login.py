"""Log in with an API key, stay logged in over a refresh, log out."""

import json

import streamlit as st

from dashboard.client import Client, ClientError
from dashboard.schemas import User
from dashboard.sessions import COOKIE, Login, sessions
from dashboard.settings import Settings

# The page posts the ticket, so the cookie is one that no script can read; the ticket is worthless afterwards.
CLAIM = "<script>fetch('/session', {{method: 'POST', body: {ticket}, credentials: 'same-origin'}});</script>"


def current_login() -> Login | None:
    """The login of this browser: of this visit, or the one its cookie stands for."""
    token: str | None = st.session_state.get("token") or st.context.cookies.get(COOKIE)
    return sessions().find(token)


def current_user() -> User:
    user = st.session_state["user"]
    assert isinstance(user, User)
    return user


def client() -> Client:
    """The HTTP client of the logged-in user."""
    login = current_login()
    assert login is not None, "pages run only for a logged-in user"
    return _client(login.key)


def _client(key: str) -> Client:
    settings = Settings()
    return Client(settings.backend_url, settings.serving_url, key)


def restore() -> bool:
    """Whether somebody is logged in; asks the backend once a visit who it is.

    Raises:
        ClientError: the backend cannot say.
    """
    login = current_login()
    if login is None:
        return False
    if "user" not in st.session_state:
        st.session_state["user"] = _client(login.key).me()
        st.session_state["token"] = login.token
    ticket = st.session_state.get("ticket")
    if ticket and sessions().waiting(ticket):
        st.html(CLAIM.format(ticket=json.dumps(ticket)), unsafe_allow_javascript=True)
    return True


def log_out(reason: str = "") -> None:
    """Forget the login here and for the cookie; `reason` is shown above the form."""
    login = current_login()
    if login is not None:
        sessions().close(login.token)
    st.session_state.clear()
    st.session_state["login_reason"] = reason


def login_page() -> None:
    """The form that stands in for every page until a key is accepted; the address stays, so the page opens next."""
    _, middle, _ = st.columns([1, 1.2, 1])
    with middle:
        st.space("large")
        st.title("Octavo")
        st.caption("From raw text to a served reasoning model.")
        if reason := st.session_state.pop("login_reason", ""):
            st.warning(reason)
        with st.form("login", border=True):
            key = st.text_input("API key", type="password", autocomplete="current-password")
            sent = st.form_submit_button("Log in", type="primary", width="stretch")
        st.caption("The administrator's key was written to the file `admin_key` in the platform's home folder.")
        if sent:
            _log_in(key.strip())


def _log_in(key: str) -> None:
    if not key:
        st.error("Enter an API key; an administrator makes one on the System page.")
        return
    try:
        user = _client(key).me()
    except ClientError as error:
        st.error(str(error))
        return
    login, ticket = sessions().open(key)
    st.session_state.update(user=user, token=login.token, ticket=ticket)
    st.rerun()

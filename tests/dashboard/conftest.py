import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import dashboard
from dashboard.client import Client
from dashboard.sessions import sessions
from tests.dashboard.contract import KEY, Platform, served

APP = Path(dashboard.__file__).with_name("app.py")
Open = Callable[..., AppTest]


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
def url(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with served(platform) as url:
        monkeypatch.setenv("OCTAVO_BACKEND_URL", url)
        monkeypatch.setenv("OCTAVO_SERVING_URL", url)
        yield url


@pytest.fixture
def client(url: str) -> Client:
    return Client(url, url, KEY)


@pytest.fixture
def open_page(url: str) -> Open:
    """Open a page by its file's name with query parameters, logged in unless said otherwise."""

    def open_page(page: str, *, key: str | None = KEY, **query: str) -> AppTest:
        app = AppTest.from_file(APP, default_timeout=30)
        if key is not None:
            login, _ = sessions().open(key)
            app.session_state["token"] = login.token
        app.query_params |= query
        app.run()
        return app if page == "pipelines" else app.switch_page(os.path.join("views", f"{page}.py")).run()

    return open_page


def texts(app: AppTest) -> str:
    """Everything a person can read on the page, but for tables and charts."""
    kinds = ("title", "subheader", "markdown", "caption", "info", "error", "warning", "success", "code")
    lines = [str(element.value) for kind in kinds for element in app.get(kind)]
    lines += [f"{metric.label}: {metric.value}" for metric in app.metric]
    return "\n".join(lines)

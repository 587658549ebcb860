"""A person's way through the dashboard in a real browser: log in, start a run, watch, label, ask."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from scripts.browser import FLAGS, ensure_chromium
from scripts.screenshot import log_in
from scripts.supervise import START_SECONDS
from tests.end_to_end.conftest import House
from tests.end_to_end.test_journey import until
from trainer.spec import TrainingBase, load_recipe

pytestmark = [pytest.mark.end_to_end, pytest.mark.browser]

PATIENCE_MS = START_SECONDS * 1000
STEPS = 2_000  # a run long enough to be watched


@pytest.fixture
def page(house: House) -> Iterator[Page]:
    """A logged-in browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=ensure_chromium(), args=FLAGS)
        opened = browser.new_page(base_url=house.address("OCTAVO_DASHBOARD_PORT"))
        opened.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        opened.goto("/")
        log_in(opened, house.key)
        expect(opened.get_by_role("heading", name="Pipelines", exact=True)).to_be_visible()
        yield opened
        browser.close()


def test_a_run_is_started_and_its_curve_grows_and_survives_a_refresh(
    page: Page, house: House, demo: dict[str, Any]
) -> None:
    page.get_by_role("combobox", name=re.compile("Recipe")).click()
    page.get_by_role("option", name="smoke").click()
    steps = page.get_by_label("Steps of sft", exact=True)
    [given] = [job.steps for job in load_recipe("smoke").jobs if job.name == "sft" and isinstance(job, TrainingBase)]
    expect(steps).to_have_value(str(given))  # until then the field is still the other recipe's
    steps.fill(str(STEPS))
    steps.press("Enter")
    page.get_by_role("button", name="Start pipeline").click()
    page.wait_for_url(re.compile(r"/pipeline\?id="))
    pipeline = page.url.rpartition("=")[2]
    job = house.backend.pipeline(pipeline).job("sft").id
    page.goto(f"/run?id={job}")
    first = newest_step(house, job)
    until(lambda: newest_step(house, job) > first)
    chart = page.locator("[data-testid='stVegaLiteChart'] canvas, [data-testid='stVegaLiteChart'] svg").first
    expect(chart).to_be_visible()
    before = chart.screenshot()
    until(lambda: page.wait_for_timeout(500) is None and chart.screenshot() != before)
    page.reload()
    expect(page.get_by_role("heading", name="sft")).to_be_visible()
    page.get_by_role("button", name="Cancel run").click()
    until(lambda: house.backend.pipeline(pipeline).state != "running")


def test_a_pair_is_labelled_by_keyboard(page: Page, house: House, second_demo: dict[str, Any]) -> None:
    put_pair(house)
    page.goto("/label")
    expect(page.get_by_text("Answer A")).to_be_visible()
    labelled = labels(house)
    page.keyboard.press("a")
    until(lambda: page.wait_for_timeout(100) is None and labels(house) == labelled + 1)


def test_an_answer_streams_into_the_playground(page: Page, demo: dict[str, Any]) -> None:
    page.goto("/playground")
    question = page.get_by_placeholder("Ask the model")
    question.fill(demo["question"]["question"])
    question.press("Enter")
    expect(page.get_by_text(re.compile(r"\d+ tokens out"))).to_be_visible()


def newest_step(house: House, job: str) -> int:
    answer = httpx.get(_url(house, f"/jobs/{job}"), headers=_headers(house), trust_env=False)
    return int(answer.json()["step"])


def put_pair(house: House) -> None:
    body = {"prompt": [{"role": "user", "content": "2 + 3?"}], "a": "5", "b": "6", "origin": "playground"}
    answer = httpx.post(_url(house, "/pairs"), json=body, headers=_headers(house), trust_env=False)
    assert answer.is_success, answer.text


def labels(house: House) -> int:
    answer = httpx.get(_url(house, "/labels/summary"), headers=_headers(house), trust_env=False)
    return int(answer.json()["mine"])


def _url(house: House, path: str) -> str:
    return house.address("OCTAVO_BACKEND_PORT") + path


def _headers(house: House) -> dict[str, str]:
    return {"Authorization": f"Bearer {house.key}"}

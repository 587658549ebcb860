"""python -m scripts.screenshot [PAGE] [FILE]: a page of the running dashboard as a PNG, seen with the admin's key.

PAGE is what stands behind the dashboard's address, such as 'system' or 'run?id=…'. Without it: the run page of the
demo's reinforcement learning.
"""

import argparse
import json
import re
import sys
from pathlib import Path

from playwright.sync_api import Error, Page, sync_playwright

from backend.settings import read_settings
from scripts.browser import FLAGS, ensure_chromium
from scripts.supervise import Platform

DEFAULT_FILE = Path("docs/run.png")
WIDTH, HEIGHT = 1440, 1000
SETTLE_MS = 3_000  # the charts draw themselves after the script has ended
BUSY = "[data-testid='stApp'][data-test-script-state='running']"


def demo_page(home: Path) -> str:
    """The run page of the demo's reinforcement learning.

    Raises:
        ValueError: the demo has not been run in this home.
    """
    path = home / "demo.json"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; run the demo first, or name a page")
    return f"run?id={json.loads(path.read_text())['jobs']['rlhf']}"


def log_in(page: Page, key: str) -> None:
    """Fill in the form that stands in for every page, and wait for the cookie that outlives a change of address."""
    page.get_by_label("API key").fill(key)
    with page.expect_response(re.compile(r"/session$")):
        page.get_by_role("button", name="Log in").click()


def take(address: str, key: str, file: Path, width: int, height: int) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=ensure_chromium(), args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(address)
        log_in(page, key)
        page.wait_for_timeout(SETTLE_MS)
        page.wait_for_selector(BUSY, state="detached")
        file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=file)
        browser.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshot")
    parser.add_argument("page", nargs="?", help="what stands behind the dashboard's address")
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--height", type=int, default=HEIGHT)
    parsed = parser.parse_args(arguments)
    try:
        platform = Platform(read_settings())
        page = parsed.page or demo_page(platform.home)
        key = (platform.home / "admin_key").read_text().strip()
        take(f"{platform.addresses['dashboard']}/{page}", key, parsed.file, parsed.width, parsed.height)
    except (ValueError, OSError, Error) as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)  # a browser's error has a call log below it
        return 1
    print(f"{page} -> {parsed.file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

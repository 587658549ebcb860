"""python -m scripts.browser: a Chromium for the browser test, found or installed.

First the system's own, then Playwright's, then Debian's package when we may install it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_SECONDS = 300
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")  # fmt: skip


def find_chromium() -> Path | None:
    """A Chromium that is there: on the PATH, or downloaded by Playwright."""
    for name in SYSTEM_NAMES:
        if found := shutil.which(name):
            return Path(found)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.is_file() and starts(path) else None


def starts(path: Path) -> bool:
    """Playwright's download may lack libraries of the system, which only running it shows."""
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0


def installers() -> list[list[str]]:
    commands = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        commands += [["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]]
    return commands


def ensure_chromium() -> Path:
    """Find a Chromium, or install one.

    Raises:
        ValueError: none is there and none could be installed.
    """
    if found := find_chromium():
        return found
    for command in installers():
        print(f"no Chromium yet; trying: {' '.join(command)}", flush=True)
        try:
            subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"gave up after {INSTALL_SECONDS} s", flush=True)
        if found := find_chromium():
            return found
    raise ValueError(
        "the browser test needs Chromium, which is neither installed nor could be downloaded; "
        "install the package 'chromium' or put a chromium or google-chrome on the PATH"
    )


if __name__ == "__main__":
    try:
        print(f"browser: {ensure_chromium()}")
    except ValueError as problem:
        sys.exit(f"error: {problem}")

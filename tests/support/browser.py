"""A real browser: Debian's headless Chromium, driven by playwright."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.support.command import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page


@contextlib.contextmanager
def running() -> Iterator[Browser]:
    """Run a browser; it takes a second to start."""
    with sync_playwright() as driver:
        # Chromium's own sandbox needs another user than root.
        browser = driver.chromium.launch(
            executable_path=require("chromium-headless-shell"), args=["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Shown:
    """A page that is shown, and what it asked for and complained about meanwhile."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextlib.contextmanager
def shown(
    browser: Browser, address: str, width: int = 1280, scheme: str = "light"
) -> Iterator[Shown]:
    """Show a page in a window of this width, to somebody who likes it `light` or `dark`."""
    page = browser.new_page(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    found = Shown(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda message: found.complaints.append(message.text))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    try:
        page.goto(address)
        yield found
    finally:
        page.close()


def picture(browser: Browser, source: Path, target: Path) -> None:
    """Write a picture of a page down to the machines, as a screen shows it."""
    with shown(browser, source.as_uri(), 1200) as found:
        end = found.page.locator("h2").last.bounding_box()
        assert end is not None
        found.page.set_viewport_size({"width": 1200, "height": int(end["y"]) - 12})
        found.page.screenshot(path=str(target))

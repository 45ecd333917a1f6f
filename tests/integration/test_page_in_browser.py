"""The page to look at, in a real browser: it loads nothing, fits a phone, and all can read it.

One browser shows all of them.
"""

from __future__ import annotations

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from gymdbd.notices.page import document
from tests.support import browser as browsers
from tests.support.pages import HOSTILE, a_page, hostile_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_PAGES = {
    "well": a_page("en"),
    "not-well": a_page("en", well=False),
    "not-well-ko": a_page("ko", well=False),
    "hostile": hostile_page(HOSTILE),
    "long": hostile_page("x" * 5000, "ko"),
}

_OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start the browser."""
    with browsers.running() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """Serve the pages by HTTP, where a browser also asks for an icon; note what is asked for."""
    folder, asked = tmp_path_factory.mktemp("site"), list[str]()
    for name, page in _PAGES.items():
        (folder / f"{name}.html").write_text(document.render(page), encoding="utf-8")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize("name", _PAGES)
def test_a_page_loads_nothing_and_nothing_is_wrong_with_it(
    name: str, browser: Browser, site: tuple[str, list[str]]
) -> None:
    """No other request is sent, and the browser complains about nothing: no policy is broken."""
    address, asked = site
    asked.clear()
    with browsers.shown(browser, f"{address}/{name}.html") as found:
        # The style was allowed, and an icon is drawn from the page itself.
        assert found.page.evaluate("getComputedStyle(document.querySelector('.card')).borderRadius")
        assert found.page.locator("h1 svg.icon").bounding_box() is not None
        assert found.complaints == []
        assert [url for url in found.requests if not url.startswith("data:")] == [
            f"{address}/{name}.html"
        ]
    assert asked == [f"/{name}.html"]


@pytest.mark.parametrize("name", _PAGES)
def test_nobody_has_to_scroll_sideways(
    name: str, browser: Browser, site: tuple[str, list[str]]
) -> None:
    """On a phone, on a tablet, and on a large screen; also if every list is open."""
    with browsers.shown(browser, f"{site[0]}/{name}.html") as found:
        found.page.evaluate(_OPEN_ALL)
        widths = {}
        for width in (320, 360, 768, 1280):
            found.page.set_viewport_size({"width": width, "height": 800})
            widths[width] = found.page.evaluate("document.documentElement.scrollWidth")
    assert widths == {width: width for width in widths}


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("not-well", "light"), ("not-well-ko", "dark"), ("hostile", "dark")],
)
def test_axe_finds_nothing(
    name: str, scheme: str, browser: Browser, site: tuple[str, list[str]]
) -> None:
    """Contrast, names, tables, headings and landmarks are as a screen reader needs them."""
    with browsers.shown(browser, f"{site[0]}/{name}.html", 360, scheme) as found:
        found.page.evaluate(_OPEN_ALL)
        answer = Axe().run(found.page, options={"resultTypes": ["violations"]}).response
        assert [
            (violation["id"], violation["nodes"][0]["html"]) for violation in answer["violations"]
        ] == []
        assert len(answer["passes"]) > 20


def test_the_two_schemes_differ(browser: Browser, site: tuple[str, list[str]]) -> None:
    """Whoever likes it dark gets it dark, and prints it dark on white all the same."""
    colours = {}
    for scheme in ("light", "dark"):
        with browsers.shown(browser, f"{site[0]}/well.html", scheme=scheme) as found:
            style = "(({color, backgroundColor}) => [color, backgroundColor])"
            colour = f"{style}(getComputedStyle(document.body))"
            colours[scheme] = found.page.evaluate(colour)
            found.page.emulate_media(media="print")
            colours[f"{scheme}, printed"] = found.page.evaluate(colour)
    assert colours["light"] != colours["dark"]
    assert colours["light, printed"] == colours["dark, printed"]
    assert colours["light, printed"][1] == "rgb(255, 255, 255)"


def test_a_print_shows_why_days_were_not_good(
    browser: Browser, site: tuple[str, list[str]]
) -> None:
    """Nobody can open a list on paper."""
    with browsers.shown(browser, f"{site[0]}/not-well.html") as found:
        listed = found.page.locator("details li").first
        assert not listed.is_visible()
        found.page.emulate_media(media="print")
        assert listed.is_visible()
        assert found.page.pdf().startswith(b"%PDF")


def test_the_keyboard_reaches_what_is_wrong_and_why(
    browser: Browser, site: tuple[str, list[str]]
) -> None:
    """Tab leads to each trouble, Enter to its card, and then to the days that were not good."""
    with browsers.shown(browser, f"{site[0]}/not-well.html") as found:
        press = found.page.keyboard.press
        press("Tab")
        press("Enter")
        assert found.page.url.endswith("#job-nightly-backup")
        press("Tab")
        press("Enter")
        opened = found.page.locator("details[open]")
        assert opened.count() == 1
        assert "no space left" in opened.inner_text()


def test_a_screen_reader_is_told_of_each_day(browser: Browser, site: tuple[str, list[str]]) -> None:
    """The cells are cells of a table with headers, and are described; curves are images."""
    with browsers.shown(browser, f"{site[0]}/not-well.html") as found:
        table = found.page.get_by_role("table", name="The last 13 weeks").first
        assert table.get_by_role("rowheader").count() == 7
        assert table.get_by_role("columnheader").count() == 13 + 4
        assert table.get_by_role("cell").count() == 7 * 13 + 2
        curve = found.page.get_by_role("img", name="Size").first
        assert "MiB on" in (curve.locator("desc").text_content() or "")
        assert found.page.get_by_role("heading", level=1).inner_text() == "Something has failed"

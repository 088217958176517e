"""Fixtures: a real headless Chromium, and services with real jobs or with a prepared history."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, expect, sync_playwright

from tests.e2e.dashboard.made import make
from tests.e2e.dashboard.past import Past, fill, serve
from tests.e2e.service import ROOT, Service

AXE = ROOT / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
expect.set_options(timeout=15_000)  # a busy machine may be slow; a test of speed sets its own limit
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable: TRAINYARD_CHROMIUM, or one on the path. `make e2e` fails without it."""
    found = os.environ.get("TRAINYARD_CHROMIUM") or next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        leave("no Chromium on this machine: install it (apt-get install chromium), or set TRAINYARD_CHROMIUM")
    if not (ROOT / "dashboard" / "dist" / "index.html").exists() or not AXE.exists():
        leave("the dashboard has not been built: make page")
    return found


def leave(why: str) -> NoReturn:
    if os.environ.get("TRAINYARD_E2E") == "1":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A browser per test file: while it is open, an event loop runs in this thread, and no other test could start one."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


class Screen:
    """A tab that records console errors and warnings, page errors, and requests to other hosts; none may have occurred.

    `allow` is a pattern of console messages that a test provokes on purpose.
    """

    def __init__(self, page: Page, url: str, allow: str | None = None) -> None:
        self.page = page
        self.url = url
        self.allow = allow
        self.complaints: list[str] = []
        self.foreign_requests: list[str] = []
        page.on("console", lambda message: message.type in {"error", "warning"} and self._complain(message))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._count)

    def _complain(self, message: ConsoleMessage) -> None:
        if self.allow is None or not re.search(self.allow, message.text):
            self.complaints.append(f"{message.text} ({message.location['url']})")

    def _count(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.foreign_requests.append(request.url)

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def check(self) -> None:
        """Check what holds on every screen: a quiet console, no foreign request, no sideways scroll, no serious finding of axe."""
        self.check_quiet()
        # `evaluate` runs in an isolated world, since the page's content security policy blocks inline scripts.
        found = self.page.evaluate(AXE.read_text() + _SERIOUS)
        assert found == [], self.page.url
        sideways = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sideways <= 0, f"{self.page.url}: {sideways} px wider than the window"

    def check_both_widths(self) -> None:
        """`check` at the widths of a desktop and of a phone."""
        for width in (1280, 360):
            self.page.set_viewport_size({"width": width, "height": 800})
            self.check()

    def check_quiet(self) -> None:
        assert self.complaints == []
        assert self.foreign_requests == []


@contextmanager
def held(page: Page, pattern: str) -> Iterator[None]:
    """Hold back the requests to matching addresses until the end of the block."""
    routes: list[Route] = []

    def hold(route: Route) -> None:
        routes.append(route)

    page.route(pattern, hold)
    yield
    for route in routes:
        route.continue_()
    page.unroute(pattern)


_SERIOUS = """
;axe.run({ resultTypes: ["violations"] }).then(({ violations }) => violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(" | ")}`))
"""


@pytest.fixture(scope="module")
def signed_in(browser: Browser, service: Service) -> dict:
    """The storage state of a context in which a user has signed in."""
    return sign_in(browser, service.state()["url"], (service.home / "credentials").read_text().strip())


def sign_in(browser: Browser, url: str, key: str) -> dict:
    with tabs(browser, url, None) as open_screen:
        page = open_screen(f"/#key={key}").page
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("navigation", name="Pages").wait_for()
        return page.context.storage_state()


Open = Callable[..., Screen]


@pytest.fixture
def screen(browser: Browser, service: Service, signed_in: dict) -> Iterator[Open]:
    """Open tabs: `screen("/jobs", theme="dark", width=360)`."""
    with tabs(browser, service.state()["url"], signed_in) as open_screen:
        yield open_screen


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """A service without workers, with hundreds of runs in every state."""
    with serve(tmp_path_factory.mktemp("past") / "home") as serving:
        make(serving)
        fill(serving, 500)
        yield serving


@pytest.fixture(scope="module")
def signed_in_past(browser: Browser, past: Past) -> dict:
    return sign_in(browser, past.url, past.key)


@pytest.fixture
def past_screen(browser: Browser, past: Past, signed_in_past: dict) -> Iterator[Open]:
    """Open tabs on the service with a prepared history."""
    with tabs(browser, past.url, signed_in_past) as open_screen:
        yield open_screen


@pytest.fixture
def visit(browser: Browser, service: Service) -> Iterator[Open]:
    """Open tabs that are not signed in."""
    with tabs(browser, service.state()["url"], None) as open_screen:
        yield open_screen


@contextmanager
def tabs(browser: Browser, url: str, signed_in: dict | None) -> Iterator[Open]:
    """Open tabs; at the end, check the console and the requests of each."""
    opened: list[Screen] = []

    def open_screen(path: str, theme: str = "light", width: int = 1280, allow: str | None = None) -> Screen:
        context = browser.new_context(
            storage_state=signed_in,
            color_scheme=theme,
            viewport={"width": width, "height": 800},
            permissions=["clipboard-read", "clipboard-write"],
            reduced_motion="reduce",
        )
        context.set_default_timeout(15_000)
        opened.append(Screen(context.new_page(), url, allow))
        opened[-1].open(path)
        return opened[-1]

    try:
        yield open_screen
    finally:
        for each in opened:
            each.page.context.close()
    for each in opened:
        each.check_quiet()


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for screenshots."""
    folder = ROOT / "build" / "e2e"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

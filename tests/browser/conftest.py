"""Pages in Debian's Chromium, driven by Playwright; nothing outside this machine can be reached."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

ROOT = Path(__file__).parents[2]
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
LOCAL = ("127.0.0.1", "localhost", "::1", None, "")
OpenPage = Callable[..., Page]
PATIENCE = 120.0
"""Seconds to wait for what must come: long, since a busy machine is slow; what comes ends it."""
expect.set_options(timeout=1000 * PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def need(is_there: bool, what: str) -> None:
    """Skip where a tool is missing, except in CI, which must have all of them."""
    if not is_there and os.environ.get("CI"):
        pytest.fail(f"{what} is missing: `make browser` installs it")
    if not is_there:
        pytest.skip(f"{what} is missing: `make browser` installs it")


def until(page: Page, is_true: str | Callable[[], bool], arg: Any = None) -> None:
    """Wait until a script or a function is true, where a page forbids Playwright's own wait."""
    end = time.monotonic() + PATIENCE
    while not (page.evaluate(is_true, arg) if isinstance(is_true, str) else is_true()):
        assert time.monotonic() < end, f"never true: {is_true}"
        page.wait_for_timeout(50)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this folder."""
    chromium = shutil.which("chromium")
    need(chromium is not None, "Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, timeout=1000 * PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[OpenPage]:
    """Opens HTML text, a file or a local address; the test fails on errors and foreign requests."""
    wrong: list[str] = []
    contexts = []

    def guard(route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("http", "https", "ws") and address.hostname not in LOCAL:
            wrong.append(f"foreign request: {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def said(message: ConsoleMessage) -> None:
        refused = "the server responded with a status of 4" in message.text  # that is no fault
        if message.type == "error" and not refused:
            wrong.append(f"console: {message.text}")

    def opened(shown: str | Path, width: int = 1280, height: int = 900, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.route("**/*", guard)
        context.set_default_timeout(1000 * PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", said)
        if isinstance(shown, Path):
            shown = shown.as_uri()
        elif not shown.startswith("http"):
            file = tmp_path / f"page-{len(contexts)}.html"
            file.write_text(shown, encoding="utf-8")
            shown = file.as_uri()
        page.goto(shown)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong, wrong


@pytest.fixture
def check_accessible() -> Callable[[Page], None]:
    """Fails with what axe finds serious on a page."""
    need(AXE.exists(), "axe-core")

    def check(page: Page) -> None:
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run().then(result => result.violations)")
        serious = [
            f"{row['id']}: {row['help']}: {[node['html'][:200] for node in row['nodes']]}"
            for row in found
            if row["impact"] in ("serious", "critical")
        ]
        assert not serious, serious

    return check

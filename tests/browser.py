"""Pages in a browser: headless Chromium, where the machine has one."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
LARGEST_PAGE = 5_000_000


def chromium() -> str | None:
    """The program, where there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def opened(path: Path, *, dark: bool = False) -> Iterator[Any]:
    """The page; on leaving, nothing may have been said on its console, and nothing asked for but
    the file itself."""
    program = chromium()
    if program is None:
        pytest.skip("no Chromium here")
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=list(OPTIONS))
        page = browser.new_page(color_scheme="dark" if dark else "light")
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        yield page
        browser.close()
    # software that draws in three dimensions says that it is slow
    assert not [text for text in said if "GPU stall" not in text], said
    assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}


def pixels(page: Any, element: str) -> bytes:
    """What an element looks like."""
    return page.locator(element).screenshot()


def look_at(path: Path, shows: tuple[str, ...] = ()) -> None:
    """Open a stage's page, and use all that it offers: each must do what it says. `shows`: what
    there is to be shown and hidden on the image of this page."""
    assert path.stat().st_size < LARGEST_PAGE
    with opened(path) as page:
        assert page.locator("h1").text_content()
        if page.locator("#viewer-canvas").count():
            _look_closely(page, shows)
        if page.locator("#model").count():
            _turn(page)


def _look_closely(page: Any, shows: tuple[str, ...]) -> None:
    canvas = "#viewer-canvas"
    before = pixels(page, canvas)
    layers = page.locator("[name=viewer-layer]")
    for k in range(1, layers.count()):
        layers.nth(k).check()
        now = pixels(page, canvas)
        assert now != before
        before = now
    assert page.locator("#viewer-scale").text_content()
    for name in page.locator("[data-shows]").evaluate_all("all => all.map(e => e.dataset.shows)"):
        box = page.locator(f"[data-shows={name}]")
        if name in shows:
            now = pixels(page, canvas)
            box.set_checked(not box.is_checked())
            assert pixels(page, canvas) != now, name
    page.locator(canvas).focus()
    now = pixels(page, canvas)
    for key in ("+", "ArrowLeft"):
        page.keyboard.press(key)
        assert pixels(page, canvas) != now
        now = pixels(page, canvas)
    page.keyboard.press("0")
    page.locator(canvas).hover()
    page.mouse.wheel(0, -300)
    assert pixels(page, canvas) != now
    page.locator("#viewer-fit").click()
    if page.locator("#viewer-details").count():
        page.locator("#viewer-details").evaluate("e => e.replaceChildren()")
        page.locator(canvas).click()  # its middle, where there is a region
        assert page.locator("#viewer-details").text_content()


def _turn(page: Any) -> None:
    page.wait_for_function("document.getElementById('model-note').textContent")
    assert "atoms" in page.locator("#model-note").text_content()
    page.locator("#model").scroll_into_view_if_needed()
    seen = set()
    for name in ("beam", "side", "slant"):
        page.locator(f"[data-look={name}]").click()
        seen.add(pixels(page, "#model"))
    page.locator("#model").focus()
    page.keyboard.press("ArrowLeft")
    seen.add(pixels(page, "#model"))
    assert len(seen) == 4

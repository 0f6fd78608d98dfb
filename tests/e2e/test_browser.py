"""What a real browser shows: the cockpit that `serve` serves, and the page that `report` writes."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.async_api import Page, async_playwright

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).parents[2]
PURPLE, CORAL = (183, 148, 255), (255, 138, 112)
"""The colours of the agent and of the training run."""
PATIENCE_MS = 120_000


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """An empty page, which may ask for nothing outside this machine."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        opened = await browser.new_page(viewport={"width": 1300, "height": 850})
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        await browser.close()


async def colours(page: Page) -> set[tuple[int, ...]]:
    """All colours of the page as it is shown."""
    image = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
    found = image.getcolors(image.width * image.height)
    return {colour for _, colour in found or []}  # type: ignore[misc]


async def shows(page: Page, *wanted: tuple[int, ...]) -> bool:
    """Whether the page comes to show these colours."""
    for _ in range(240):
        if set(wanted) <= await colours(page):
            return True
        await asyncio.sleep(0.5)
    return False


@pytest.fixture
def report(repository: Path) -> Path:
    """The report of a run of three experiments."""
    command = [sys.executable, "-P", "-m", "loop.cli"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    flags = ["--headless", "--tag", "t", "--agent", "search", "--budget", "0.2", "--max-experiments", "3"]
    for words in (["run", *flags], ["report", "--tag", "t"]):
        subprocess.run([*command, *words], cwd=repository, env=environment, check=True, capture_output=True)
    (written,) = repository.rglob("report.html")
    return written


async def test_the_cockpit_is_shown_and_left_in_a_browser(address: str, page: Page) -> None:
    elsewhere: list[str] = []
    page.on(
        "request", lambda request: elsewhere.append(request.url) if "127.0.0.1" not in request.url else None
    )
    refused: list[str] = []
    page.on("requestfailed", lambda request: refused.append(request.url))
    await page.goto(address)
    await page.wait_for_selector("body.-first-byte")
    assert await shows(page, PURPLE, CORAL)
    assert set(elsewhere) <= set(refused), "the page fetched something from elsewhere"
    await page.click("#terminal")
    await page.keyboard.press("q")
    await page.wait_for_selector(".closed-dialog .message", state="visible")


async def test_the_report_is_one_page_that_needs_nothing(report: Path, page: Page) -> None:
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    await page.goto(report.as_uri())
    text = await page.inner_text("body")
    assert "val_bpb" in text
    assert "autoresearch/t" in text
    assert await page.locator("table tr").count() >= 3
    assert await page.evaluate("document.body.scrollWidth <= window.innerWidth")
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert wrong == []

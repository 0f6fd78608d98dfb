"""A terminal that changes its size twice while the cockpit is busy."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil

import pytest
from textual.events import Resize
from textual.geometry import Size
from textual.screen import Screen

import tui.screens
from tests.tui.conftest import Open
from tests.tui.pilot import settle
from tests.tui.recorded import waiting
from tui.screens.fitted import Fitted

MOMENT_S = 0.1
"""Longer than Textual waits to see whether another size follows."""


@pytest.mark.parametrize("keys", ["", "?", "enter", "r", "w", "n"])
async def test_the_last_size_stays(cockpit: Open, keys: str) -> None:
    async with cockpit(waiting()).run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press(*filter(None, [keys]))
        await settle(pilot)
        app, screen, goes_on = pilot.app, pilot.app.screen, asyncio.Event()
        sizes: list[Size] = []
        laid_out = screen.screen_layout_refresh_signal
        laid_out.subscribe(app, lambda _: sizes.append(screen.size), immediate=True)
        screen.call_later(goes_on.wait)
        for width in (60, 120):
            app.post_message(Resize(Size(width, 40), Size(width, 40)))
            await asyncio.sleep(MOMENT_S)
            screen.call_later(lambda: None)  # without it the second size would replace the first
        goes_on.set()
        await asyncio.sleep(MOMENT_S)
        sizes.clear()
        await asyncio.sleep(MOMENT_S)
        assert {*sizes, screen.size} == {Size(120, 40)}


def test_every_screen_of_the_cockpit_ends_with_the_terminals_size() -> None:
    names = [module.name for module in pkgutil.iter_modules(tui.screens.__path__)]
    modules = [importlib.import_module(f"tui.screens.{name}") for name in names]
    found = {
        screen
        for module in modules
        for _, screen in inspect.getmembers(module, inspect.isclass)
        if issubclass(screen, Screen) and screen.__module__.startswith("tui.")
    }
    assert len(found) > 5
    assert [screen for screen in found if not issubclass(screen, Fitted)] == []

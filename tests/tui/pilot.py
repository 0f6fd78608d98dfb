"""Drives a cockpit in a test: presses keys, and waits until nothing is on its way to the screen any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from textual.pilot import Pilot

from tui.app import Cockpit

SIZES = {"narrow": (80, 24), "usual": (120, 40), "large": (200, 50)}
WIDE = SIZES["usual"]


async def settle(pilot: Pilot[int]) -> None:
    """Let messages, workers and one frame pass."""
    await pilot.pause()
    await pilot.pause()
    while any(not w.is_finished for w in pilot.app.workers if w.group != "default"):
        await pilot.pause(0.01)
    app = pilot.app
    assert isinstance(app, Cockpit)
    app.main.flush()
    await pilot.pause()


def press(*keys: str) -> Callable[[Pilot[int]], Awaitable[None]]:
    """Presses the keys one after the other, then waits for a still picture."""

    async def run(pilot: Pilot[int]) -> None:
        await settle(pilot)
        for key in keys:
            await pilot.press(key)
            await settle(pilot)
        await still(pilot)

    return run


async def still(pilot: Pilot[int]) -> None:
    """Wait until two pictures in a row are the same: nothing is being laid out or loaded any more."""
    before, now = "", pilot.app.export_screenshot()
    while now != before:
        await settle(pilot)
        before, now = now, pilot.app.export_screenshot()

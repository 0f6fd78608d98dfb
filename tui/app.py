"""The cockpit: a window on a running engine. It shows, sends commands and detaches; it owns nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Event, Key
from textual.screen import Screen

from loop import events as ev
from loop.client import ConnectionLost, Runs
from tui import palette, settings
from tui.driver import ThriftyDriver
from tui.keys import Keys, key_name
from tui.link import Connect, Link
from tui.panels.status import choose
from tui.screens.main import MainScreen
from tui.text import safe
from tui.theme import THEMES

TROUBLE_S = 20.0
"""Seconds for which the screen shows what is wrong with the settings."""
COLLECT_S, IDLE_S = 60.0, 5.0
"""Seconds between two searches for garbage among all objects, and those without a key before one."""
PATIENCE_S = 0.5
"""Seconds without a word from the engine after which the empty panels are shown."""


class Cockpit(App[int]):
    """The app: it makes the link, loads the settings and shows the main screen.

    `connect` opens a connection to the run's engine; `runs` are those that can be shown instead.
    """

    TITLE = "autoresearch-tui"
    CSS_PATH = "tui.tcss"
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {palette.Commands}
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+l", "redraw", "Redraw", show=False, priority=True)]

    def __init__(
        self,
        connect: Connect,
        config_folder: Path | None = None,
        now: Callable[[], float] = time.time,
        runs: Runs | None = None,
    ) -> None:
        super().__init__()
        self._folder = config_folder or settings.default_folder()
        self.settings, trouble = settings.load(self._folder)
        keys = Keys(self.settings.keys)
        self.set_keymap(keys.keymap)
        unknown = choose(self.settings.status_line)[1]
        self._troubles = [*filter(None, [trouble]), *keys.problems, *unknown]
        """What is wrong with the settings; shown at the start."""
        self.link = Link(connect, self, keys)
        self.main = MainScreen(self.link, self.settings, self.remember, now, runs)
        self.event_loop: asyncio.AbstractEventLoop | None = None
        self.last_words = ""
        """Printed when the screen is gone."""
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.settings.theme if self.settings.theme in self.available_themes else THEMES[0].name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The colours of the meanings (`$agent`, `$keep`, ...), for themes that do not define them."""
        return {key: value for key, value in THEMES[0].variables.items() if "-" not in key}

    def get_key_display(self, binding: Binding) -> str:
        """Keys are written everywhere as the help writes them."""
        return key_name(binding.key)

    def get_driver_class(self) -> type[Driver]:
        """The one that spares a slow line, where the cockpit has a terminal of its own."""
        found = super().get_driver_class()
        return ThriftyDriver if found is LinuxDriver else found

    def get_default_screen(self) -> Screen[None]:
        return self.main

    def on_mount(self) -> None:
        self.event_loop = asyncio.get_running_loop()
        self.set_timer(PATIENCE_S, self._unveil)
        self.set_interval(COLLECT_S, self._collect_garbage)

    async def on_event(self, event: Event) -> None:
        """Note when keys come: what would hold up the next one waits."""
        if isinstance(event, Key):
            self.main.pace.key()
        await super().on_event(event)

    def _collect_garbage(self) -> None:
        """Search for garbage among all objects, which takes up to 0.1 s, unless somebody types."""
        if self.main.pace.since_key > IDLE_S:
            gc.collect()

    def on_ready(self) -> None:
        """Follow the engine, once the main screen has panels to show its events."""
        for trouble in self._troubles:
            self.link.toast(trouble, "warning", TROUBLE_S)
        self.main.call_later(self._start_following)

    def attached(self) -> None:
        """The link holds a new state: show it, and unveil the screen when it is there."""
        self.main.attached()
        self.call_after_refresh(self._unveil)

    def take(self, event: ev.AnyEvent) -> None:
        self.main.take(event)

    def detached(self) -> None:
        self.main.detached()

    def _unveil(self) -> None:
        """Paint for the first time."""
        if isinstance(self._driver, ThriftyDriver) and self._driver.is_veiled:
            self._driver.is_veiled = False
            self.refresh()

    def on_resize(self) -> None:
        """A terminal moves and cuts its lines when its size changes, also when it changes back at once."""
        if isinstance(self._driver, ThriftyDriver):
            self._driver.forget()

    def action_redraw(self) -> None:
        """Write the whole screen again: another program may have written over it."""
        if isinstance(self._driver, ThriftyDriver):
            self._driver.forget()
        self.screen.refresh()

    def _start_following(self) -> None:
        self.run_worker(self._follow(), name="connection")

    async def _follow(self) -> None:
        try:
            await self.link.follow(self)
        except (ConnectionLost, OSError) as error:
            self.last_words = str(error)
            self.exit(2)

    def watch_theme(self, name: str) -> None:
        if name != self.settings.theme:
            self.settings.theme = name
            self.remember()

    def remember(self) -> None:
        """Write the settings to their file."""
        settings.save(self.settings, self._folder)

    async def action_quit(self) -> None:
        """Leave the cockpit and say how to come back; the engine goes on."""
        state = self.link.state
        if state.tag and state.stopped is None:
            tag = safe(state.tag)
            self.last_words = (
                f"the engine goes on: `autoresearch-tui attach --tag {tag}` shows it again, "
                f"`autoresearch-tui stop --tag {tag}` ends it"
            )
        self.exit(0)

"""What every screen knows of the run: its state, the engine's connection, and the messages to the human."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from textual.app import App

from loop import events as ev
from loop.client import Connection, ConnectionLost, Refused
from loop.state import RunState
from tui.keys import Keys
from tui.text import ended, metric, safe, signed, title

Connect = Callable[[], Awaitable[Connection]]
Severity = Literal["information", "warning", "error"]

RETRY_S = 1.0
"""Seconds between two attempts to reach an engine that is gone."""
YIELD_EVERY = 200
"""After this many events in a row, keys and painting get their turn."""


class Listener(Protocol):
    """Who shows what the link receives: the main screen."""

    def attached(self) -> None:
        """The link holds a new state, which has to be painted as a whole."""
        ...

    def take(self, event: ev.AnyEvent) -> None:
        """An event has just changed the state."""
        ...

    def detached(self) -> None:
        """The engine is gone; `Link.trouble` says what that means."""
        ...


class Link:
    """The cockpit's link to one run; each screen holds it.

    `connect` opens a connection to the run's engine. It is called again whenever the engine is gone.
    `app` shows the toasts and runs the workers. `keys` are the keys that the actions have.
    """

    def __init__(self, connect: Connect, app: App[int], keys: Keys) -> None:
        self.keys = keys
        self.state = RunState()
        self.trouble = ""
        """What is wrong with the connection; empty when nothing is."""
        self._connect = connect
        self._connection: Connection | None = None
        self._switching = False
        """Another run is to be shown: the connection ends for that."""
        self._app = app

    @property
    def connection(self) -> Connection:
        """The connection to the engine. Raises `ConnectionLost` before there is one."""
        if self._connection is None:
            raise ConnectionLost("not connected yet")
        return self._connection

    async def switch(self, connect: Connect) -> None:
        """Show another run from now on. Raises `ConnectionLost` or OSError when it cannot be reached."""
        other = await connect()
        await other.close()  # it was only asked whether it answers; `follow` connects to it
        self._connect, self._switching = connect, True
        if self._connection is not None:
            await self._connection.close()

    async def follow(self, listener: Listener) -> None:
        """Attach to the engine, pass its events on, and attach again each time it comes back.

        Runs until it is cancelled. Raises `ConnectionLost` or OSError when the first attempt fails.
        """
        while True:
            try:
                self._connection = await self._connect()
            except (ConnectionLost, OSError):
                if not self.state.tag:
                    raise
                await asyncio.sleep(RETRY_S)
                continue
            self.state, self.trouble = self._connection.state, ""
            listener.attached()
            _leave_long_searches_to_the_app()
            await self._pass_on(self._connection, listener)
            if self._switching:
                self._switching = False
                continue
            if self.state.stopped is not None:
                self.trouble = f"{self.keys['detach'] or 'ctrl+q'} leaves"
            else:
                self.trouble = "engine gone, waiting for it"
                self.toast("The engine is gone without a word; waiting for it.", "error")
            listener.detached()
            await asyncio.sleep(RETRY_S)

    async def _pass_on(self, connection: Connection, listener: Listener) -> None:
        """Hand each event to the listener, until the connection ends."""
        taken = 0
        async for record in connection.records():
            listener.take(record.event)
            self._announce(record.event)
            taken += 1
            if taken % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def send(self, command: ev.AnyCommand) -> None:
        """Send a command; the engine's answer appears as a toast."""
        self._app.run_worker(self._send(command), group="commands")

    async def _send(self, command: ev.AnyCommand) -> None:
        try:
            self.toast(await self.connection.send(command))
        except (Refused, ConnectionLost) as error:
            self.toast(str(error), "warning")

    def toast(self, text: str, severity: Severity = "information", seconds: float | None = None) -> None:
        """Show a short message over the screen for a few seconds."""
        self._app.notify(safe(text), severity=severity, timeout=seconds, markup=False)

    def _announce(self, event: ev.AnyEvent) -> None:
        """Toasts for the events that a human wants to hear of, with a bell where a decision is wanted."""
        match event:
            case ev.Judged(n=n, status="keep"):
                words = f"#{n} kept: {metric(event.value)} {signed(event.delta)}"
                self.toast(f"{words}  {title(self.state.experiment(n))}")
            case ev.TrainingFinished(n=n, training=training) if training > 1:
                self.toast(f"#{n} {ended(event)}")
            case ev.Judged(n=n, status="crash", reason=reason):
                self.toast(f"#{n} crashed: {reason}", "error")
            case ev.Paused(reason=reason, by="engine"):
                self._app.bell()
                self.toast(f"Paused: {reason}", "warning")
            case ev.ApprovalRequested(n=n):
                self._app.bell()
                self.toast(f"#{n} waits for your approval: {title(self.state.experiment(n))}", "warning")
            case ev.EngineStopped(reason=reason):
                self.toast(f"The engine stopped: {reason}", "warning")
            case ev.PermissionAsked(title=asked):
                self._app.bell()
                self.toast(f"The agent asks for permission: {asked}", "warning")
            case ev.Notice(level=level, text=text):
                self.toast(text, "information" if level == "info" else level)
            case _:
                pass


def _leave_long_searches_to_the_app() -> None:
    """Search for garbage in small steps, not in the state, and never among all objects: in a long run that
    holds up keys for 0.1 s. The app does it while nobody types."""
    gc.freeze()
    gc.set_threshold(2_000, 10, 1_000_000)

"""Sends messages about a run to the user's phone, chat or mail, through apprise.

It is off unless AUTORESEARCH_NOTIFY holds one or more apprise URLs, separated by spaces or commas. The URLs
contain secrets: they are read from the environment only and never written anywhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

from loop import events as ev
from loop.errors import UsageError
from loop.state import RunState

STREAK = 3
"""A message is sent when this many experiments in a row have crashed."""
VARIABLE = "AUTORESEARCH_NOTIFY"


def message(event: ev.AnyEvent, state: RunState) -> str | None:
    """The text to send about an event; None for events that nobody has to be told of.

    Told are a new best, crashes in a row, a pause by the engine, a candidate to approve, and the end.
    """
    match event:
        case ev.Judged(n=n, status="keep", value=float(value)) if event.delta is not None:
            return f"#{n} new best {state.metric} {value:.6f} ({event.delta:+.6f}): {_title(state, n)}"
        case ev.Judged(n=n, status="crash") if _streak(state) == STREAK:
            return f"{STREAK} crashes in a row, the last: {_title(state, n)}"
        case ev.Paused(by="engine", reason=reason):
            return f"paused: {reason}"
        case ev.ApprovalRequested(n=n):
            return f"#{n} waits for your approval: {_title(state, n)}"
        case ev.EngineStopped(reason=reason):
            return f"the engine stopped: {reason}"
        case _:
            return None


def _streak(state: RunState) -> int:
    """Crashes since the last experiment that did not crash."""
    judged = [e.phase for e in state.experiments if e.judged]
    return next((i for i, phase in enumerate(reversed(judged)) if phase != "crash"), len(judged))


def _title(state: RunState, n: int) -> str:
    return state.experiment(n).description


class Notifier:
    """Sends messages in the background, so that the loop never waits for a slow or broken service."""

    def __init__(self, environ: Mapping[str, str], complain: Callable[[ev.Notice], None]) -> None:
        """`complain` gets a notice for each message that could not be sent.

        Raises `UsageError` when AUTORESEARCH_NOTIFY is set and apprise is missing or a URL is wrong.
        """
        self._service: Any = None
        self._complain = complain
        self._tasks: set[asyncio.Task[None]] = set()
        urls = [url for url in re.split(r"[\s,]+", environ.get(VARIABLE, "")) if url]
        if not urls:
            return
        try:
            import apprise
        except ImportError:
            raise UsageError(f"{VARIABLE} is set: pip install 'autoresearch-tui[notify]'") from None
        self._service = apprise.Apprise()
        for number, url in enumerate(urls, 1):
            if not self._service.add(url):
                raise UsageError(f"{VARIABLE}: URL {number} is not one that apprise knows")

    def tell(self, event: ev.AnyEvent, state: RunState) -> None:
        """Send the message about this event, if there is one. `state` already contains the event."""
        if self._service is None or (text := message(event, state)) is None:
            return
        task = asyncio.create_task(self._send(f"autoresearch/{state.tag}", text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, title: str, text: str) -> None:
        # As plain text: a mail would show as HTML what an agent wrote.
        if not await asyncio.to_thread(self._service.notify, body=text, title=title, body_format="text"):
            self._complain(ev.Notice("warning", "a notification could not be delivered"))

    async def close(self, patience_s: float = 5.0) -> None:
        """Wait until the last messages are sent, at most `patience_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)

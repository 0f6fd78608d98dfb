"""Tells the human elsewhere (phone, chat, mail) what they would get up for, through apprise.

Off unless AUTORESEARCH_NOTIFY holds one or more apprise URLs, separated by spaces or commas. The URLs hold
secrets: they are read from the environment only and never written anywhere.
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
"""Crashes in a row that are worth a message."""
VARIABLE = "AUTORESEARCH_NOTIFY"


def message(event: ev.AnyEvent, state: RunState) -> str | None:
    """What is worth a message: a new best, crashes in a row, a pause by the engine, a decision that waits."""
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
    """Sends in the background: a slow or broken service never holds the loop."""

    def __init__(self, environ: Mapping[str, str], complain: Callable[[ev.Notice], None]) -> None:
        """Raises `UsageError` when it is switched on and cannot work."""
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
        """Send a message about an event, if it is worth one."""
        if self._service is None or (text := message(event, state)) is None:
            return
        task = asyncio.create_task(self._send(f"autoresearch/{state.tag}", text))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, title: str, text: str) -> None:
        if not await asyncio.to_thread(self._service.notify, body=text, title=title):
            self._complain(ev.Notice("warning", "a notification could not be delivered"))

    async def close(self, patience_s: float = 5.0) -> None:
        """Let the last messages out."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience_s)

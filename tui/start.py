"""Opens the cockpit on this terminal, and restores the terminal when the cockpit ends."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable

from loop.client import Runs
from tui.app import Cockpit
from tui.link import Connect

LEAVE_S = 3.0
"""Seconds that the cockpit has after a signal to restore the terminal."""


def run_cockpit(connect: Connect, now: Callable[[], float] = time.time, runs: Runs | None = None) -> int:
    """Show the cockpit until the human leaves it; returns the exit code.

    `now` is the clock of the run, `runs` are the runs that can be shown instead.
    """
    app = Cockpit(connect, now=now, runs=runs)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: _leave(app, number))
    threading.Thread(target=_leave_with_terminal, args=(app,), daemon=True).start()
    if "TEXTUAL_DRIVER" in os.environ:
        threading.Thread(target=_leave_with_parent, args=(os.getppid(),), daemon=True).start()
    code = app.run() or 0
    if app.return_code and not code:
        print("autoresearch-tui: the cockpit crashed (above); the engine goes on", file=sys.stderr)
        return app.return_code
    if app.last_words:
        print(f"autoresearch-tui: {app.last_words}", file=sys.stderr if code else sys.stdout)
    return code


def _leave_with_parent(parent: int) -> None:
    """End this process when its parent has ended: that is the server that shows the cockpit in a browser."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _leave_with_terminal(app: Cockpit) -> None:
    """Leave the cockpit when its terminal is gone.

    The system sends SIGHUP to the first process of a terminal only. When that is `make`, it keeps the signal
    to itself, and the cockpit would go on for ever, reading from a terminal that gives nothing.
    """
    terminal = select.poll()
    terminal.register(sys.stdin.fileno(), 0)  # 0: report nothing but its end
    terminal.poll()
    _leave(app, signal.SIGHUP)


def _leave(app: Cockpit, number: int) -> None:
    """Leave the cockpit in order, as after the signal `number`.

    Writing to a terminal that is gone can block the event loop for ever. So a thread, which does not need the
    event loop, ends the process after `LEAVE_S` in any case.
    """
    force = threading.Timer(LEAVE_S, os._exit, (128 + number,))
    force.daemon = True
    force.start()
    if app.event_loop is not None:
        app.event_loop.call_soon_threadsafe(app.exit, 0)

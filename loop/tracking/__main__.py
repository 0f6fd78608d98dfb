"""The process of one tracker: `python -m loop.tracking NAME ROOT TAG`, started by `loop.service.tracking`.

It follows the run until its standard input ends, which it does when the engine has ended, however that came
about. Messages for the human go to standard output, as `Notice` events, one a line. Whatever the tracker's
own library prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TextIO

from loop import events as ev
from loop.agents.acp.process import secrets
from loop.paths import RunPaths, owner_only
from loop.records.repository import Repository
from loop.text import redact, without
from loop.tracking.follow import Follower
from loop.tracking.tracker import Place, Tracker, open_tracker

EVERY_S = 2.0
"""Seconds between two looks at the run."""
RETRY_S = 300.0
"""Longest wait after a failure; it begins with `EVERY_S` and doubles."""
WORDS_MOST = 160
"""Characters of a library's error message that are shown."""
LAST_S = 30.0
"""Seconds in which the last things must be sent when the engine has ended."""


def main(argv: list[str]) -> int:
    """Serve one tracker until standard input ends."""
    name, root, tag = argv
    paths = RunPaths(Path(root), tag)
    messages = _keep_standard_output()
    ended = threading.Event()
    threading.Thread(target=_wait_for_end, args=(ended,), daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(10)  # trainings come first
    with open(paths.folder / f"tracking-{name}.lock", "w", opener=owner_only) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the last engine's process may still be sending
        Service(name, paths, messages, os.environ).run(ended)
    return 0


class Service:
    """Keeps one tracker up to date; what fails is tried again, and said once."""

    def __init__(self, name: str, paths: RunPaths, messages: TextIO, environ: Mapping[str, str]) -> None:
        self._name, self._paths, self._messages, self._environ = name, paths, messages, environ
        self._follower = Follower(name, paths, Repository.discover(paths.root))
        self._tracker: Tracker | None = None
        self._failed = ""
        """What was said about the last failure; empty while all is well."""

    def run(self, ended: threading.Event) -> None:
        """Look at the run every `EVERY_S` seconds, and once more when `ended` is set."""
        wait = EVERY_S
        while True:
            last = ended.is_set()  # asked before looking: else the last records could be missed
            wait = EVERY_S if self.look() else min(2 * wait, RETRY_S)
            if last:
                break
            ended.wait(wait)
        if self._tracker is not None:
            try:
                self._tracker.close()
            except Exception as error:
                self._fail(error)

    def look(self) -> bool:
        """Bring the tracker up to date; False when that failed."""
        try:
            self._follower.read()
            if self._tracker is None:
                place = Place(self._paths.folder, self._paths.root.name, self._paths.tag)
                self._tracker = open_tracker(self._name, place, self._environ)
                self._say("info", f"experiments go to {self._tracker.where}")
            self._follower.sync(self._tracker)
        except Exception as error:  # whatever a tracker's library raises must not end this
            self._fail(error)
            return False
        if self._failed:
            self._failed = ""
            self._say("info", "works again; what was missing is sent")
        return True

    def _fail(self, error: Exception) -> None:
        words = redact(str(error) or type(error).__name__, secrets(self._environ))
        words = f"{words[:WORDS_MOST]}…" if len(words) > WORDS_MOST else words.rstrip(".")
        if words != self._failed:
            self._failed = words
            self._say("error", f"{words}; it is tried again, the research goes on")

    def _say(self, level: Literal["info", "error"], text: str) -> None:
        text = without(text, secrets(self._environ))
        with contextlib.suppress(OSError):  # the engine is gone
            self._messages.write(ev.encode(ev.Notice(level, f"{self._name}: {text}")).decode() + "\n")
            self._messages.flush()


def _keep_standard_output() -> TextIO:
    """Standard output for this program alone; the libraries' output goes to standard error from now on."""
    mine = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return mine


def _wait_for_end(ended: threading.Event) -> None:
    """Wait until standard input ends; then end this process in `LAST_S` seconds at the latest."""
    while os.read(0, 4096):
        pass
    ended.set()
    time.sleep(LAST_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

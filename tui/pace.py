"""When the panels below another screen are painted: rarely, and not while somebody types."""

from __future__ import annotations

import time
from collections.abc import Callable

BELOW_S, HIDDEN_S = 1.0, 5.0
"""Seconds between two frames of panels that a dialog leaves in view, and of those that nobody sees. Below a
dialog each frame paints the whole terminal again, which may hold up a key."""
TYPING_S = 0.3
"""So many seconds after a key nothing is painted below a dialog: the next key is near."""


class Pace:
    """Remembers when the last key and the last frame came. `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._painted = self._typed = -HIDDEN_S

    def key(self) -> None:
        """A key has come."""
        self._typed = self._clock()

    @property
    def since_key(self) -> float:
        """Seconds since the last key."""
        return self._clock() - self._typed

    def may_paint(self, *, hidden: bool) -> bool:
        """Whether panels below another screen are painted now; `hidden`: nothing of them is seen."""
        now = self._clock()
        due = now - self._painted >= (HIDDEN_S if hidden else BELOW_S) and self.since_key >= TYPING_S
        if due:
            self._painted = now
        return due

"""The time-out of one proposal. It stands still while a human is asked or a vendor's server is down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Clock:
    """Holds and moves an `asyncio.Timeout`, once there is one."""

    def __init__(self) -> None:
        self.limit: asyncio.Timeout | None = None
        self._holders = 0
        self._left_s = 0.0

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """The time of this block does not count. Blocks may overlap."""
        now = asyncio.get_running_loop().time
        if not self._holders and self.limit and (when := self.limit.when()) is not None:
            self._left_s = when - now()
            self.limit.reschedule(None)
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders and self.limit:
                with contextlib.suppress(RuntimeError):  # the proposal is over
                    self.limit.reschedule(now() + self._left_s)

    def give_back(self, seconds: float) -> None:
        """The last `seconds` do not count after all."""
        if self.limit and (when := self.limit.when()) is not None:
            self.limit.reschedule(when + seconds)

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        when = self.limit.when() if self.limit else None
        return when is not None and when <= asyncio.get_running_loop().time()

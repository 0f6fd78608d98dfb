"""Writes to the terminal only what changes on it."""

from __future__ import annotations

from textual.drivers.linux_driver import LinuxDriver

from tui.mirror import PAINT, Mirror


class ThriftyDriver(LinuxDriver):
    """Textual's driver for terminals, which writes each paint as the difference from what stands there."""

    is_veiled = True
    """Nothing is painted yet, because there is nothing to show: over a slow line each paint counts."""
    _mirror: Mirror | None = None

    def start_application_mode(self) -> None:
        self.forget()
        super().start_application_mode()  # type: ignore[no-untyped-call]

    def forget(self) -> None:
        """Write the next paint whole: something else may have written to the terminal, or cut it."""
        self._mirror = Mirror()

    def write(self, data: str) -> None:
        """Write `data`, less what the terminal shows already."""
        if self._mirror is None:
            super().write(data)
            return
        if self.is_veiled and PAINT.match(data):
            return
        if thinned := self._mirror.thin(data):
            super().write(thinned)

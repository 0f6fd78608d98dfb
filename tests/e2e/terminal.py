"""A real terminal for a real command: a pty, and pyte to read what stands on its screen."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from pathlib import Path

import pyte

PATIENCE_S = 30.0


class Terminal:
    """Starts a command on a terminal of its own, types keys and waits for words."""

    def __init__(self, command: list[str], folder: Path, columns: int = 120, rows: int = 40) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:  # the child: nothing but exec may happen here
            os.chdir(folder)
            # An explicit environment: readline and xdist put their own COLUMNS and LINES into the process's.
            environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
            environment |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
            os.execvpe(command[0], command, environment)
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self._fd)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self, seconds: float) -> bool:
        """Take in what is written within `seconds`; False when the other end is closed."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.output += data
        self.draw(data)
        return bool(data)

    def draw(self, data: bytes) -> None:
        self._stream.feed(data)

    def wait_for(self, *words: str, gone: str = "", seconds: float = PATIENCE_S) -> None:
        """Read until all words stand on the screen and `gone` does not."""
        deadline = time.monotonic() + seconds
        while not all(word in self.text for word in words) or (gone and gone in self.text):
            left = deadline - time.monotonic()
            assert left > 0, f"waited for {words}, without {gone!r}; the screen shows\n{self.text}"
            assert self.read(min(0.2, left)), f"it ended while waiting for {words}:\n{self.text}"

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def wait_end(self, seconds: float = PATIENCE_S) -> int:
        """Read to the end; returns the exit code."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read(0.1)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while (
                    self.read(0.1) and time.monotonic() < deadline and select.select([self._fd], [], [], 0)[0]
                ):
                    pass
                return os.waitstatus_to_exitcode(status)
        raise AssertionError(f"it did not end:\n{self.text}")

    def restored(self) -> bool:
        """The terminal is as it was: line settings, main screen, cursor, mouse off."""
        same = termios.tcgetattr(self._fd)[:4] == self.before[:4]
        return same and all(
            self.output.rfind(off) > self.output.rfind(on)
            for on, off in (
                (b"\x1b[?1049h", b"\x1b[?1049l"),
                (b"\x1b[?25l", b"\x1b[?25h"),
                (b"\x1b[?1000h", b"\x1b[?1000l"),
            )
        )

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self._fd)

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):
            os.close(self._fd)

"""How light the cockpit is, on a real terminal: `python -m benchmarks.cockpit`.

A child process shows a recorded run in a pty; this process types, reads and measures it from outside.
"""

from __future__ import annotations

import asyncio
import os
import select
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from rich.console import RenderableType
from textual.screen import Screen

from loop import events as ev
from tests.e2e.terminal import Terminal
from tests.tui.recorded import Recorded, Script
from tests.tui.recorded import fleet as fleet_of

MIB = 2**20


# --- the child: a cockpit on a recording ---


def child(scene: str) -> None:
    from tui.app import Cockpit

    results = {"busy": 10_000, "first": 0}.get(scene, 100)
    script = Script().night(results) if results else Script().begin()
    script.propose(results + 1).train(results + 1).progress(results + 1, 0.2)
    connection = Recorded(fleet_of(8).records if scene == "fleet" else script.records)
    feeds = {"busy": busy, "long": long, "fleet": fleet}

    async def connect() -> Recorded:
        if feed := feeds.get(scene):
            feeders.append(asyncio.create_task(feed(connection, results + 2)))
        return connection

    feeders: list[asyncio.Task[None]] = []
    Cockpit(connect, Path(tempfile.mkdtemp())).run()


async def busy(connection: Recorded, n: int) -> None:
    """Send the events of a busy run: 200 tokens and 10 progress lines a second."""
    i = 0
    while True:
        await asyncio.sleep(0.05)
        i += 1
        for _ in range(10):
            connection.push(ev.AgentDelta(n, "text", "token " if i % 40 else "\n\n", id=str(i // 400)))
        if i % 2 == 0:
            connection.push(ev.Progress(n - 1, 1, i, 0.2, 3.0, 1.0, 310.0, 1.7e6, 39.8, 1, 240.0))


async def fleet(connection: Recorded, n: int) -> None:
    """Send what eight trainers print in trainings of 300 s: three progress lines a second each."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(1 / 3)
        passed = time.monotonic() - began
        for t in connection.state.under_way:
            part = min(1.0, (0.05 * t.seat + passed / 300) % 1)
            loss = 2.2 + 3 * 0.1**part + 0.01 * (t.seat % 3 - 1)
            connection.push(
                ev.Progress(
                    t.n, 1, int(1400 * part), part, loss, 1.0, 310.0, 1.7e6, 39.8, 1, 300 * (1 - part)
                )
            )


async def long(connection: Recorded, n: int) -> None:
    """Send 200,000 events of transcript, as fast as the cockpit takes them."""
    for i in range(200_000):
        if i % 100 == 0:  # events that wait here would count as memory of the cockpit
            await asyncio.sleep(0)
        connection.push(ev.AgentDelta(n + i // 400, "text", f"word {i} of the night ", id=str(i // 20)))


# --- the parent: measures ---


class Raw(Terminal):
    """A terminal that draws nothing of what the cockpit writes: pyte draws slower than the cockpit writes."""

    def draw(self, data: bytes) -> None:
        pass


class SlowLine(Terminal):
    """A terminal at the far end of a line: `RATE` bytes a second, `DELAY_S` seconds in each direction."""

    RATE, DELAY_S = 20_000, 0.3

    def __init__(self, command: list[str], folder: Path) -> None:
        self._free_at = 0.0
        """When the line has carried all that was put on it."""
        self._under_way: list[tuple[float, bytes]] = []
        super().__init__(command, folder)

    def read(self, seconds: float) -> bool:
        """Take in what arrives within `seconds`; the line takes nothing while it is full."""
        end = time.perf_counter() + seconds
        while True:
            now = time.perf_counter()
            if self._free_at <= now and select.select([self._fd], [], [], 0)[0]:
                try:
                    data = os.read(self._fd, 1024)
                except OSError:
                    return False
                self._free_at = now + len(data) / self.RATE
                self._under_way.append((self._free_at + self.DELAY_S, data))
            while self._under_way and self._under_way[0][0] <= now:
                data = self._under_way.pop(0)[1]
                self.output += data
                self.draw(data)
            if now >= end:
                return True
            time.sleep(0.002)

    def press(self, keys: str) -> None:
        end = time.perf_counter() + self.DELAY_S
        while time.perf_counter() < end:
            self.read(0.01)
        super().press(keys)


def start(scene: str) -> tuple[Terminal, float]:
    began = time.perf_counter()
    terminal = Raw([sys.executable, "-m", "benchmarks.cockpit", scene], Path.cwd())
    until(terminal, lambda: b"Detach" in terminal.output)
    return terminal, time.perf_counter() - began


def until(terminal: Terminal, true: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.perf_counter() + seconds
    while not true():
        if time.perf_counter() > deadline or not terminal.read(0.002):
            raise SystemExit(f"the cockpit did not get there: {terminal.output[-2000:]!r}")


def first_frame() -> None:
    terminal, seconds = start("first")
    settled = time.perf_counter() + 2
    while time.perf_counter() < settled:
        terminal.read(0.1)
    whole = len(terminal.output)
    terminal.kill()
    print(f"first frame                        {seconds:8.2f} s     goal 1.00")
    print(f"first frame and 2 s, written       {whole / 1000:8.1f} KB    goal 40")


def key_to_frame(keys: int = 200) -> None:
    terminal, _ = start("busy")
    time.sleep(1)
    terminal.press("i")
    until(terminal, lambda: b"To the agent" in terminal.output)
    time.sleep(0.5)  # the dialog may be seen before it has the focus
    delays = []
    for i in range(keys):
        key = "ψφχω"[i % 4]  # what stands on the screen is not written again
        terminal.output = b""
        began = time.perf_counter()
        terminal.press(key)
        until(terminal, lambda: key.encode() in terminal.output)  # noqa: B023
        delays.append(1000 * (time.perf_counter() - began))
        terminal.press("\x7f")
        pause = time.perf_counter() + 0.03
        while time.perf_counter() < pause:
            terminal.read(0.002)
    terminal.kill()
    ordered = sorted(delays)
    print(f"key to frame while streaming, p50  {statistics.median(delays):8.1f} ms")
    print(f"key to frame while streaming, p99  {ordered[int(0.99 * len(ordered))]:8.1f} ms    goal 40")


def key_work(keys: int = 200) -> None:
    """The processor time between a key and the frame that shows it: the same, however busy the machine is."""
    spent = sorted(asyncio.run(_key_work(keys)))
    print(f"the same, processor time, p50      {statistics.median(spent):8.1f} ms")
    print(f"the same, processor time, p99      {spent[int(0.99 * len(spent))]:8.1f} ms")


async def _key_work(keys: int) -> list[float]:
    """Milliseconds for each key that is typed into a dialog, above a run that streams."""
    from textual.events import Key
    from textual.widgets import Input

    from tui.app import Cockpit

    script = Script().night(10_000).propose(10_001).train(10_001).progress(10_001, 0.2)
    connection, feeders = Recorded(script.records), list[asyncio.Task[None]]()

    async def connect() -> Recorded:
        feeders.append(asyncio.create_task(busy(connection, 10_002)))
        return connection

    app, shown, spent = Cockpit(connect, Path(tempfile.mkdtemp())), asyncio.Event(), list[float]()
    display = app._display

    def note(screen: Screen[Any], renderable: RenderableType | None) -> None:
        display(screen, renderable)
        if any(box.value for box in screen.query(Input)):
            shown.set()

    app._display = note  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        await asyncio.sleep(2)
        await pilot.press("i")
        await asyncio.sleep(1)
        for _ in range(keys):
            app.screen.query_one(Input).value = ""
            await asyncio.sleep(0.035)
            shown.clear()
            began = time.process_time()
            app.post_message(Key("x", "x"))
            await shown.wait()
            spent.append(1000 * (time.process_time() - began))
    return spent


def slow_line(keys: int = 20) -> None:
    """A busy run at the far end of a slow line: how long a key takes, and whether the frames are sound."""
    began = time.perf_counter()
    terminal = SlowLine([sys.executable, "-m", "benchmarks.cockpit", "busy"], Path.cwd())
    until(terminal, lambda: "Detach" in terminal.text)
    print(f"slow line, first frame             {time.perf_counter() - began:8.2f} s     goal 4")
    delays = []
    terminal.press("i")
    until(terminal, lambda: "To the agent" in terminal.text)
    for count in range(1, keys + 1):
        pressed = time.perf_counter()
        terminal.press("ψ")
        until(terminal, lambda: terminal.text.count("ψ") >= count)  # noqa: B023
        delays.append(time.perf_counter() - pressed)
    terminal.press("\x1b")
    until(terminal, lambda: "To the agent" not in terminal.text and "Detach" in terminal.text)
    frame = terminal.text.splitlines()
    broken = [line for line in frame if len(line) > 120]
    terminal.kill()
    print(f"slow line, key to frame, p50       {statistics.median(delays):8.2f} s     the line itself: 0.60")
    print(f"slow line, key to frame, longest   {max(delays):8.2f} s     goal 1.5")
    if broken or not frame[0].strip():
        raise SystemExit("a frame was not whole:\n" + terminal.text)


def idle(seconds: float = 20.0) -> None:
    still("idle", "idle", 300, seconds)


def eight_seats(seconds: float = 60.0) -> None:
    still("fleet", "eight seats train", 2000, seconds)


def still(scene: str, words: str, goal: int, seconds: float) -> None:
    """What a cockpit that nobody touches writes to the terminal, and what it uses."""
    terminal, _ = start(scene)
    settled = time.perf_counter() + 3
    while time.perf_counter() < settled:
        terminal.read(0.2)
    process = psutil.Process(terminal.pid)
    terminal.output = b""
    cpu, began = sum(process.cpu_times()[:2]), time.perf_counter()
    while time.perf_counter() - began < seconds:
        terminal.read(0.2)
    used = sum(process.cpu_times()[:2]) - cpu
    print(
        f"{words}, written to the terminal".ljust(42),
        f"{len(terminal.output) / seconds:8.0f} B/s   goal {goal}",
    )
    print(f"{words}, processor".ljust(42), f"{100 * used / seconds:8.1f} %")
    terminal.kill()


def long_night() -> None:
    terminal, _ = start("long")
    process = psutil.Process(terminal.pid)
    began = time.perf_counter()
    until(terminal, lambda: b"199999" in terminal.output, 300)
    seconds = time.perf_counter() - began
    memory = process.memory_info().rss / MIB
    terminal.kill()
    print(f"200,000 transcript events          {seconds:8.1f} s")
    print(f"resident memory after them         {memory:8.0f} MiB   goal 150")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1])
    else:
        for measure in (first_frame, key_to_frame, key_work, slow_line, idle, eight_seats, long_night):
            measure()

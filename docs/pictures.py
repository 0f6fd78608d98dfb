"""Makes docs/screens.md, its pictures and the recording from a real run: `python docs/pictures.py DIR TAG`.

DIR is the repository of the run. Each picture shows the cockpit itself, at a moment of the run in which a
training is under way: its journal, logs and diffs are read as `autoresearch-tui replay` reads them. The
recording is what a terminal gets to see of a replay, in the format of asciinema.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from loop import events as ev  # noqa: E402
from loop.paths import RunPaths  # noqa: E402
from loop.records.repository import Repository  # noqa: E402
from loop.service.replay import Replay  # noqa: E402
from loop.state import RunState  # noqa: E402
from tests.e2e.terminal import Terminal  # noqa: E402
from tui.app import Cockpit  # noqa: E402

PICTURES = ROOT / "docs/pictures"
RECORDING_S, SPEED = 60.0, 30
"""Length of the recording, and how many times as fast as the run it is."""


class Picture(NamedTuple):
    """A picture of the cockpit: file, the terminal's size, keys that lead there, and a sentence."""

    name: str
    size: tuple[int, int]
    keys: tuple[str, ...]
    about: str


SHOWN = (
    Picture("cockpit", (140, 42), (), "The panels at once: agent, change, training, results, plot."),
    Picture("narrow", (80, 24), ("1",), "At 80 columns and 24 rows a panel at a time, behind tabs."),
    Picture("results", (80, 24), ("3",), "The results there, with the reason of each verdict."),
    Picture("experiment", (120, 40), ("b", "enter"), "`enter`: an experiment, its verdict and its change."),
    Picture("curve", (120, 40), ("b", "enter", "4"), "Its loss beside the incumbent's of that time."),
    Picture("compare", (120, 40), ("b", "c"), "`c`: two experiments side by side."),
    Picture("lineage", (120, 40), ("b", "c", "4"), "And what came from what."),
    Picture("log", (120, 40), ("l",), "`l`: what the trainer prints."),
    Picture("system", (120, 40), ("6",), "`6`: the machine in the last ten minutes."),
    Picture("limits", (120, 40), ("L",), "`L`: when the run ends by itself."),
    Picture("help", (120, 40), ("?",), "`?`: every key, colour and symbol."),
)


class Moment(Replay):
    """A run as it stood at a moment of it."""

    def __init__(self, paths: RunPaths, repository: Repository, at: float) -> None:
        super().__init__(paths, repository)
        self.state = RunState()
        for record in self._timeline():
            if record.t <= at:
                self.state.apply(record)
        newest = self._archive.detail(self.state.experiments[-1].n)  # what a live cockpit saw being edited
        edited = ev.CandidateEdited(newest.n, newest.path, newest.before, newest.after)
        self.state.apply(ev.Record(0, at, edited))
        self._at = at

    def now(self) -> float:
        return self._at


def moment_of(run: Replay) -> float:
    """When the second training after the last keep was three quarters through."""
    judged = [e for e in run.state.experiments if e.judged]
    kept = max((e.n for e in judged if e.phase == "keep"), default=1)
    later = [e.trainings[0] for e in judged if e.n > kept and e.trainings and e.trainings[0].finished]
    if not later:
        raise SystemExit("nothing was trained after the last keep: let the run go on for a while")
    training = later[min(1, len(later) - 1)]
    return training.started_at + 0.75 * training.budget_s


async def picture(shown: Picture, moment: Moment) -> str:
    """The cockpit at that moment, as SVG."""

    async def connect() -> Moment:
        return moment

    app = Cockpit(connect, Path(tempfile.mkdtemp()), now=moment.now)
    async with app.run_test(size=shown.size) as pilot:
        await pilot.pause(1.0)
        for key in shown.keys:
            await pilot.press(key)
            await pilot.pause(0.5)
        await pilot.pause(1.0)
        return app.export_screenshot(title=f"autoresearch-tui   {shown.size[0]}x{shown.size[1]}")


def recording(folder: Path, tag: str) -> str:
    """What a terminal of 120 columns and 40 rows gets from a replay, as lines of a cast file (version 2)."""
    os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp()
    os.environ["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-P", "-m", "loop.cli", "replay", tag, "--speed", str(SPEED)]
    terminal, began = Terminal(command, folder), time.monotonic()
    lines = [json.dumps({"version": 2, "width": 120, "height": 40, "title": "autoresearch-tui"})]
    rest = b""
    while (at := time.monotonic() - began) < RECORDING_S and terminal.read(0.05):
        data, terminal.output = rest + terminal.output, b""
        text = data.decode("utf-8", "ignore")
        rest = data[len(text.encode()) :]  # a character that is not whole yet
        if text:
            lines.append(json.dumps([round(at, 3), "o", text], ensure_ascii=False))
    terminal.kill()
    return "\n".join(lines) + "\n"


def page(run: RunState) -> str:
    """docs/screens.md."""
    written = [
        "# Screens\n",
        "All from one real run. `python docs/pictures.py DIR TAG` makes this page and its pictures.\n",
    ]
    kept = sum(e.phase == "keep" for e in run.experiments[1:])
    budget = run.engine.budget_s if run.engine else 0.0
    agent = run.engine.agent if run.engine else "?"
    written.append(
        f"The run: agent `{agent}`, {budget:g} s a training, {run.rows} experiments, {kept} kept besides the "
        "baseline. As a recording: `asciinema play docs/pictures/run.cast`.\n"
    )
    for shown in SHOWN:
        written.append(f"{shown.about}\n\n![{shown.about.replace('`', '')}](pictures/{shown.name}.svg)\n")
    return "\n".join(written)


async def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("folder", type=Path)
    words.add_argument("tag")
    arguments = words.parse_args()
    folder = arguments.folder.resolve()
    paths, repository = RunPaths(folder, arguments.tag), Repository.discover(folder)
    run = Replay(paths, repository)
    at = moment_of(run)
    PICTURES.mkdir(exist_ok=True)
    for shown in SHOWN:
        svg = await picture(shown, Moment(paths, repository, at))
        (PICTURES / f"{shown.name}.svg").write_text(svg)
        print(f"{shown.name}.svg  {len(svg) / 1000:.0f} KB", flush=True)
    cast = await asyncio.to_thread(recording, folder, arguments.tag)
    (PICTURES / "run.cast").write_text(cast)
    print(f"run.cast  {len(cast) / 1000:.0f} KB")
    (ROOT / "docs/screens.md").write_text(page(run.state))


if __name__ == "__main__":
    asyncio.run(main())

"""The cockpit: a window on a running engine. It shows, sends commands and detaches; it owns nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from textual.app import App, ComposeResult, ScreenStackError
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.css.query import NoMatches
from textual.events import DescendantFocus
from textual.widgets import Footer, Static

from loop import events as ev
from loop.client import Connection, ConnectionLost, Refused
from loop.state import Experiment, RunState
from tui import palette, settings
from tui.actions import ACTIONS, bindings
from tui.keys import Keys
from tui.panels.diff import Diff, preface
from tui.panels.plot import Plot
from tui.panels.results import ResultsPanel
from tui.panels.status import Status
from tui.panels.training import TrainingStrip
from tui.panels.transcript import Transcript
from tui.screens.experiment import ExperimentScreen
from tui.screens.log import LogScreen
from tui.text import metric, safe, signed, title
from tui.theme import THEMES

Connect = Callable[[], Awaitable[Connection]]

PANELS = {"agent": "Agent", "diff": "Diff", "results": "Results", "plot": "Plot"}
FRAME_S = 0.2
"""Live text reaches the screen this often: more would fill a bad line, less would look stuck."""


QUIET_S = 1.0
"""After such a silence the agent's first words do not wait for the next frame."""


class Cockpit(Keys):
    """`connect` gives a connection to the run's engine, and another one after that is lost."""

    TITLE = "autoresearch-tui"
    CSS_PATH = "tui.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    COMMANDS = App.COMMANDS | {palette.Actions}
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self, connect: Connect, config_folder: Path | None = None, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._connect = connect
        self._now = now
        self._folder = config_folder or settings.default_folder()
        self.settings = settings.load(self._folder)
        self.connection: Connection | None = None
        self.state = RunState()
        self.link = ""
        """What is wrong with the connection; empty when nothing is."""
        self.event_loop: asyncio.AbstractEventLoop | None = None
        self.last_words = ""
        """Printed when the screen is gone."""
        self._active = "agent"
        self._zoomed = False
        self._laid_out = False
        self._dirty: set[str] = set()
        self._ticked = 0.0
        self._heard = 0.0
        """When the agent last said something."""
        self._available: tuple[bool, ...] = ()
        self._reference = 0
        """Experiment whose loss curve stands behind the live one."""
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.settings.theme if self.settings.theme in self.available_themes else THEMES[0].name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {key: value for key, value in THEMES[0].variables.items() if "-" not in key}

    # --- layout ---

    def compose(self) -> ComposeResult:
        yield Status(id="status")
        yield Static(id="tabbar")
        with Horizontal(id="top"):
            yield Transcript(id="agent")
            yield Diff(id="diff")
        yield TrainingStrip(id="training")
        with Horizontal(id="bottom"):
            yield ResultsPanel(id="results-panel")
            yield Plot(id="plot")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.event_loop = asyncio.get_running_loop()
        self.transcript.border_title = "Agent"
        self.diff.border_title = "train.py"
        self.diff.set_layout(self.settings.split, self.settings.wrap)
        self.results.order = "oldest first" if self.settings.oldest_first else "newest first"
        self.results.focus()
        self.lay_out()
        self._laid_out = True
        self.run_worker(self._follow(), name="connection")
        self.set_interval(FRAME_S, self.flush)

    def on_resize(self) -> None:
        self._dirty |= {"status", "training", "results"}
        self.call_after_refresh(self.lay_out)

    @property
    def single(self) -> bool:
        """One panel at a time: the terminal is narrow or low, or a panel is zoomed."""
        return self._zoomed or self.size.width < 110 or self.size.height < 28

    def lay_out(self) -> None:
        """Show all panels, or the active one behind tabs."""
        panels = {
            name: self.main.query_one("#results-panel" if name == "results" else f"#{name}")
            for name in PANELS
        }
        for name, panel in panels.items():
            panel.display = not self.single or name == self._active
        for row, names in (("#top", ("agent", "diff")), ("#bottom", ("results", "plot"))):
            self.main.query_one(row).display = any(panels[name].display for name in names)
        training, bottom = self.main.query_one("#training"), self.main.query_one("#bottom")
        if self.single:
            self.main.move_child(training, after=bottom)
        else:
            self.main.move_child(training, before=bottom)
        bar = self.main.query_one("#tabbar", Static)
        bar.set_class(self.single, "-shown")
        bar.update(_tabs(self._active))
        self._dirty |= {"results"}

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        if event.widget.id in PANELS and len(self.screen_stack) == 1:
            changed, self._active = self._active != event.widget.id, event.widget.id
            if changed and self.single:
                self.lay_out()

    def remember(self, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(self.settings, name, value)
        self.diff.set_layout(self.settings.split, self.settings.wrap)
        settings.save(self.settings, self._folder)

    def watch_theme(self, name: str) -> None:
        if self._laid_out:
            self.remember(theme=name)
            self._dirty |= {"status", "training", "results", "diff"}

    # --- connection ---

    async def _follow(self) -> None:
        """Attach, show what comes, attach again when the engine comes back."""
        while True:
            try:
                self.connection = await self._connect()
            except (ConnectionLost, OSError) as error:
                if not self.state.tag:
                    self.last_words = str(error)
                    self.exit(2)
                    return
                await asyncio.sleep(1)
                continue
            self.link = ""
            self._show_run(self.connection.state)
            taken = 0
            async for record in self.connection.records():
                self._take(record.event)
                taken += 1
                if taken % 200 == 0:  # a long backlog must not keep keys and frames waiting
                    await asyncio.sleep(0)
            if self.state.stopped is not None:
                self.link = "q leaves"
            else:
                self.link = "engine gone, waiting for it"
                self.notify("The engine is gone without a word; waiting for it.", severity="error")
            self._dirty |= {"status", "training"}
            await asyncio.sleep(1)

    def _show_run(self, state: RunState) -> None:
        self.state = state
        self.sub_title = state.tag
        self.transcript.reset(state.live.transcript)
        self._dirty |= {"status", "training", "results", "diff", "reference", "asked"}
        self.run_worker(self._fetch_others(), exclusive=True, group="others")
        self.flush()
        _spare_keys()

    def _take(self, event: ev.AnyEvent) -> None:
        """Note what an event changes on screen; painting waits for the next frame."""
        match event:
            case ev.AgentDelta():
                quiet, self._heard = time.monotonic() - self._heard > QUIET_S, time.monotonic()
                self.transcript.feed(event)
                if quiet:
                    self.flush()
            case ev.CandidateEdited():
                self._dirty.add("diff")
            case ev.PermissionAsked() | ev.PermissionAnswered():
                self._dirty |= {"asked", "status"}
                self._announce(event)
            case ev.Progress() | ev.LogLines() | ev.Telemetry():
                return
            case ev.PhaseChanged() | ev.Preparing():
                self._dirty.add("training")
            case _:
                self._dirty |= {"status", "training", "results", "diff", "reference"}
                self._announce(event)

    def _announce(self, event: ev.AnyEvent) -> None:
        """Toasts for what one wants to be told."""
        match event:
            case ev.Judged(n=n, status="keep"):
                words = f"#{n} kept: {metric(event.value)} {signed(event.delta)}"
                self.toast(f"{words}  {title(self.state.experiment(n))}")
            case ev.Judged(n=n, status="crash", reason=reason):
                self.toast(f"#{n} crashed: {reason}", "error")
            case ev.Paused(reason=reason, by="engine"):
                self.bell()
                self.toast(f"Paused: {reason}", "warning")
            case ev.ApprovalRequested(n=n):
                self.bell()
                self.toast(f"#{n} waits for your approval: {title(self.state.experiment(n))}", "warning")
            case ev.EngineStopped(reason=reason):
                self.toast(f"The engine stopped: {reason}", "warning")
            case ev.PermissionAsked(title=asked):
                self.bell()
                self.toast(f"The agent asks leave: {asked}", "warning")
            case ev.Notice(level=level, text=text):
                self.toast(text, "information" if level == "info" else level)
            case _:
                pass

    # --- painting ---

    def flush(self) -> None:
        """One frame: paint what has changed since the last one, and the countdown once a second."""
        now = self._now()
        if now - self._ticked >= 1 or now < self._ticked:
            self._ticked = now
            self._dirty |= {"status", "training"}
        dirty, self._dirty = self._dirty, set()
        try:
            self._paint(dirty, now)
        except (NoMatches, ScreenStackError):  # a panel is not there yet, or not any more
            self._dirty |= dirty

    def _paint(self, dirty: set[str], now: float) -> None:
        self.transcript.flush()
        if "asked" in dirty:
            self._show_question()
        if "status" in dirty:
            self.main.query_one(Status).show_state(self.state, self.link, now)
            self._refresh_keys()
        if "training" in dirty:
            self.main.query_one(TrainingStrip).show(self.state, now)
        if "results" in dirty:
            self.main.query_one(ResultsPanel).show_state(self.state)
            self.main.query_one(Plot).show_state(self.state)
        if "diff" in dirty:
            self._show_diff()
        if "reference" in dirty:
            self._load_reference()
        if isinstance(self.screen, ExperimentScreen) and dirty & {"results"}:
            self.screen.show()
        if isinstance(self.screen, LogScreen):
            self.screen.show_state(self.state)

    def _show_question(self) -> None:
        """What a CLI agent asks leave for stays at the foot of its panel until it is answered."""
        asked = self.state.live.asked
        if not asked:
            self.transcript.border_subtitle = ""
            return
        words = f"{asked[0].kind} {asked[0].title}".strip()
        self.transcript.border_subtitle = Content.assemble(
            (f" {safe(words)[:60]} ", "$measure"), "a allows, r refuses"
        )

    def _refresh_keys(self) -> None:
        available = tuple(a.available(self.state) for a in ACTIONS)
        if available != self._available:
            self._available = available
            self.refresh_bindings()

    def _show_diff(self) -> None:
        """The candidate that waits for approval, or what the agent edits now."""
        picked, edited = self.picked, self.state.live.edited
        if picked is not None and (edited is None or edited.n != picked.n):
            self.run_worker(self._load_diff(picked), exclusive=True, group="diff")
        elif edited is not None:
            self._compare(edited.n, edited.path, edited.before, edited.after, edited.findings)

    async def _load_diff(self, e: Experiment) -> None:
        if self.connection is not None:
            with contextlib.suppress(Refused, ConnectionLost):
                detail = await self.connection.experiment(e.n)
                self._compare(e.n, detail.path, detail.before, detail.after, e.findings)

    def _compare(self, n: int, path: str, before: str, after: str, findings: list[str]) -> None:
        e = self.state.experiment(n) if 1 <= n <= len(self.state.experiments) else None
        added, removed = self.diff.compare(before, after, preface(e, self.state, findings))
        parent = e.parent if e else self.state.incumbent_commit
        self.diff.border_title = Content.assemble(
            f"{safe(Path(path).name)}  candidate {n} vs incumbent {parent[:7]}  ",
            (f"+{added} ", "$keep"),
            (f"-{removed}", "$discard"),
        )

    async def _fetch_others(self) -> None:
        """What earlier runs and other tools wrote to results.tsv: this run did not measure it."""
        if self.connection is not None:
            with contextlib.suppress(Refused, ConnectionLost):
                self.results.others = await self.connection.others()
                self._dirty.add("results")

    def _load_reference(self) -> None:
        incumbent = self.state.incumbent or 0
        if incumbent and incumbent != self._reference and self.connection is not None:
            self._reference = incumbent
            self.run_worker(self._fetch_reference(incumbent), exclusive=True, group="reference")

    async def _fetch_reference(self, n: int) -> None:
        if self.connection is not None:
            with contextlib.suppress(Refused, ConnectionLost):
                self.main.query_one(TrainingStrip).reference = (await self.connection.experiment(n)).curve
                self._dirty.add("training")


def _spare_keys() -> None:
    """Collect garbage less often: to look through a long run, which is none, holds up keys for 0.1 s."""
    gc.freeze()
    gc.set_threshold(5_000, 10, 50)


def _tabs(active: str) -> Content:
    parts = []
    for number, (name, label) in enumerate(PANELS.items(), 1):
        style = "bold reverse" if name == active else "$neutral"
        parts.append(Content.from_markup(f"[@click=app.panel('{name}')] {number} {label} [/]").stylize(style))
    return Content(" ").join(parts)

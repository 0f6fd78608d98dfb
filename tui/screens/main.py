"""The main screen: the panels, how they are laid out and kept up to date, and the keys that act on them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.events import DescendantFocus
from textual.screen import ModalScreen
from textual.theme import Theme

from loop import events as ev
from loop.client import ConnectionLost, Refused, Runs
from tui.actions import ACTIONS, Action, bindings
from tui.link import Link
from tui.others import LOOK_S, Others
from tui.pace import Pace
from tui.panels.diff import Diff
from tui.panels.flow import Flow
from tui.panels.footer import KeyBar
from tui.panels.plot import Plot
from tui.panels.results import Results, ResultsPanel
from tui.panels.seats import Seats
from tui.panels.status import Status, choose
from tui.panels.tabs import PANELS, TabBar
from tui.panels.training import TrainingStrip, under_way
from tui.panels.transcript import Transcript
from tui.screens.ask import Ask
from tui.screens.compare import CompareScreen
from tui.screens.experiment import ExperimentScreen
from tui.screens.log import LogScreen
from tui.screens.messages import MessagesScreen
from tui.screens.run import RunScreen
from tui.screens.runs import RunsScreen
from tui.screens.system import SystemScreen
from tui.settings import Settings
from tui.shown import show_change

Part = Literal["status", "training", "seats", "results", "diff", "reference", "permission"]
"""A part of the screen that is painted anew as a whole. `reference` is the incumbent's loss curve,
`permission` what a CLI agent asks permission for."""

ROWS = {"top": ("agent", "diff"), "bottom": ("results", "plot")}
"""Which panels stand side by side."""
TALL = 36
"""Lines of a screen from which there is room for the row with the steps of the loop."""
FRAME_S = 0.2
"""Seconds between two frames: more often would fill a slow line, less often would look stuck."""
QUIET_S = 1.0
"""After a silence of this many seconds the agent's first words are painted at once."""


UP_TO_DATE = (ExperimentScreen, LogScreen, MessagesScreen, SystemScreen)
"""Screens above this one that are brought up to date with each frame."""


class MainScreen(RunScreen):
    """Status line, agent, diff, training strip, results and plot. `now` is the clock of the run."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)
    actions: ClassVar[tuple[Action, ...]] = ACTIONS

    def __init__(
        self,
        link: Link,
        settings: Settings,
        remember: Callable[[], None],
        now: Callable[[], float],
        runs: Runs | None,
    ) -> None:
        super().__init__(link, settings, remember)
        self.transcript = Transcript(self.link.keys, id="agent")
        self.seats = Seats(id="seats")
        self._runs = runs
        self._others: Others | None = None
        self._shown = ("", "")
        """Repository and tag of the run that is on the screen."""
        self._now = now
        self._active = "agent"
        """The panel that is shown when there is room for one."""
        self._zoomed = False
        self._dirty: set[Part] = set()
        """What the next frame paints."""
        self._ticked = 0.0
        """When the countdown was painted last."""
        self.pace = Pace()
        self._heard = 0.0
        """When the agent last said something."""
        self.looked_at: int | None = None
        """The experiment whose conversation or seat is under the cursor: its change is shown."""
        self._reference = 0
        """Experiment whose loss curve stands behind the live one."""

    # --- panels and their layout ---

    def compose(self) -> ComposeResult:
        yield Status(choose(self.settings.status_line)[0], id="status")
        yield Flow(id="flow")
        yield TabBar(self.link.keys, id="tabbar")
        with Horizontal(id="top"):
            yield self.transcript
            yield Diff(self.link.keys, id="diff")
        yield self.seats
        yield TrainingStrip(self.link.keys, id="training")
        with Horizontal(id="bottom"):
            yield ResultsPanel(id="results-panel")
            yield Plot(id="plot")
        yield KeyBar(ACTIONS)

    @property
    def seat(self) -> int | None:
        """The seat under the cursor; None where there is but one."""
        return self.seats.seat if self.seats.display else None

    @property
    def results(self) -> Results:
        return self.query_one("#results", Results)

    def on_mount(self) -> None:
        self.diff.border_title = "train.py"
        self.lay_out_diff()
        self.results.order = "oldest first" if self.settings.oldest_first else "newest first"
        self.results.focus()
        self.lay_out()
        self.app.theme_changed_signal.subscribe(self, self._recolor)
        self.set_interval(FRAME_S, self.flush)
        if self._runs is not None:
            self._others = Others(self._runs, self.link, self.app)
            self.set_interval(LOOK_S, self._others.look)

    def on_resize(self) -> None:
        self._dirty |= {"status", "training", "seats", "results"}
        self.call_after_refresh(self.lay_out)

    def on_screen_resume(self) -> None:
        """Another screen has gone: it may have changed the diff's layout, and the terminal its size."""
        if self.is_mounted:
            self.lay_out_diff()
            self.on_resize()
            self.flush()

    def _recolor(self, theme: Theme) -> None:
        self._dirty |= {"status", "training", "seats", "results", "diff"}

    @property
    def single(self) -> bool:
        """One panel at a time: the terminal is narrow or low, or a panel is zoomed."""
        return self._zoomed or self.size.width < 110 or self.size.height < 28

    def lay_out(self) -> None:
        """Show all panels, or the active one behind tabs."""
        panels = {
            name: self.query_one("#results-panel" if name == "results" else f"#{name}") for name in PANELS
        }
        for name, panel in panels.items():
            panel.display = not self.single or name == self._active
        for row, names in ROWS.items():
            self.query_one(f"#{row}").display = any(panels[name].display for name in names)
        training, bottom = self.query_one("#training"), self.query_one("#bottom")
        if self.single:
            self.move_child(training, after=bottom)
        else:
            self.move_child(training, before=bottom)
        self.query_one(Flow).display = not self.single and self.size.height >= TALL
        self.seats.few = self.single
        self.move_child(self.seats, before=training)
        tabs = self.query_one(TabBar)
        tabs.display = self.single
        tabs.show_active(self._active)
        self._dirty.add("results")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        if event.widget.id in PANELS:
            changed, self._active = self._active != event.widget.id, event.widget.id
            if changed and self.single:
                self.lay_out()

    # --- what the link receives ---

    def attached(self) -> None:
        if self._shown != (shown := (self.link.state.repository, self.link.state.tag)):
            self._shown, self._reference, self.picked, self.looked_at = shown, 0, None, None
            self.results.forget()
            self.transcript.only = None
        self.transcript.show_names(self.link.state)
        self.transcript.reset(self.link.state.live.transcript, self.transcript.only)
        self._dirty |= {"status", "training", "seats", "results", "diff", "reference", "permission"}
        self.run_worker(self._fetch_others(), exclusive=True, group="others")
        self.flush()

    def detached(self) -> None:
        self._dirty |= {"status", "training"}

    def take(self, event: ev.AnyEvent) -> None:
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
                self._dirty |= {"permission", "status"}
            case ev.Progress() | ev.LogLines() | ev.Telemetry():
                pass  # these come often: each frame with a countdown shows the newest
            case ev.PhaseChanged() | ev.Preparing():
                self._dirty |= {"training", "seats"}
            case _:
                self._dirty |= {"status", "training", "seats", "results", "diff", "reference"}

    # --- painting ---

    def flush(self) -> None:
        """Paint one frame: what has changed since the last one, and the countdown once a second."""
        now = self._now()
        if now - self._ticked >= 1 or now < self._ticked:
            self._ticked = now
            self._dirty |= {"status", "training"}
        above = self.app.screen
        if above is self or self.pace.may_paint(hidden=not isinstance(above, ModalScreen)):
            dirty, self._dirty = self._dirty, set()
            try:
                self._paint(dirty, now)
            except NoMatches:  # a panel is not there yet, or not any more
                self._dirty |= dirty
        if above is not self:
            self.refresh_keys()
        if isinstance(above, UP_TO_DATE) and above.is_mounted:
            above.show()

    def _paint(self, dirty: set[Part], now: float) -> None:
        state = self.link.state
        if "status" in dirty:
            self.transcript.show_names(state)
        self.transcript.flush()
        if "permission" in dirty:
            self.transcript.show_permission(state)
        if "status" in dirty:
            self.query_one(Status).show_state(state, self.link.trouble, now)
            self.query_one(Flow).show_state(state)
            self.refresh_keys()
        if "training" in dirty:
            self.seats.show_state(state, now, changed="seats" in dirty)
            self.query_one(TrainingStrip).show_state(state, now, self.seat)
        if "results" in dirty:
            self.query_one(ResultsPanel).show_state(state)
            self.query_one(Plot).show_state(state)
        if "diff" in dirty:
            change = show_change(self.diff, self.link, self.candidate, self.looked_at)
            self.run_worker(change, exclusive=True, group="diff")
        if "reference" in dirty:
            self._load_reference()

    async def _fetch_others(self) -> None:
        """Fetch the rows of results.tsv that earlier runs and other tools wrote."""
        with contextlib.suppress(Refused, ConnectionLost):
            self.results.others = await self.link.connection.others()
            self._dirty.add("results")

    def _load_reference(self) -> None:
        """Fetch the incumbent's loss curve, when the incumbent is another one than before."""
        incumbent = self.link.state.incumbent or 0
        if incumbent and incumbent != self._reference:
            self._reference = incumbent
            self.run_worker(self._fetch_reference(incumbent), exclusive=True, group="reference")

    async def _fetch_reference(self, n: int) -> None:
        with contextlib.suppress(Refused, ConnectionLost):
            curve = (await self.link.connection.experiment(n)).curve
            self.query_one(TrainingStrip).reference = self.seats.reference = curve
            self._dirty |= {"training", "seats"}

    # --- keys: seats ---

    def on_seats_moved(self) -> None:
        """The strip and the diff show what trains there."""
        found = under_way(self.link.state, self.seat)
        self.looked_at = found.started.n if found else None
        self._dirty |= {"training", "seats", "diff"}
        self.flush()

    def training_to_stop(self) -> ev.StopTraining:
        """The one on the seat under the cursor."""
        found = under_way(self.link.state, self.seat)
        if self.seat is None or found is None:
            return super().training_to_stop()
        return ev.StopTraining(n=found.started.n, training=found.number)

    # --- keys: past experiments ---

    def action_mark(self) -> None:
        self.results.mark()

    def action_compare(self) -> None:
        """Compare what is marked; with fewer than two marks, this experiment with the incumbent."""
        state, marks = self.link.state, sorted(self.results.marks)
        if len(marks) < 2:
            chosen = marks or [n for n in [self.results.selected] if n]
            marks = sorted({*chosen, *([state.incumbent] if state.incumbent else [])})
        if marks:
            self.app.push_screen(CompareScreen(self.link, self.settings, self.remember, marks))

    def action_open(self, n: int | None = None) -> None:
        n = n or self.results.selected
        if n is not None:
            self.app.push_screen(ExperimentScreen(self.link, self.settings, self.remember, n, self.picked))

    def on_lines_chosen(self, event: Results.Chosen) -> None:
        if event.lines is self.results:
            self.action_open()

    def on_lines_moved(self, event: Results.Moved) -> None:
        """In approval mode the cursor picks the candidate that is shown and that the keys act on.

        On the transcript it picks the conversation whose change is shown.
        """
        if event.lines is self.transcript:
            self._look_at_conversation()
        if event.lines is self.results and self.link.state.approval:
            self.picked = self.results.selected
            self._dirty.add("diff")

    def action_walk(self, by: int) -> None:
        selected = self.results.selected
        if selected is not None:
            self.results.go_to(selected + by)
            self.action_panel("results")

    def action_best(self) -> None:
        if self.link.state.incumbent:
            self.action_panel("results")
            self.results.go_to(self.link.state.incumbent)

    def action_filter(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self.results.query_text = text.strip()
                self._dirty.add("results")

        self.action_panel("results")
        hint = "words, fuzzy; !word: without; status:keep, commit:7f2a, author:human"
        self.app.push_screen(Ask("Filter", hint, self.results.query_text), answered)

    def action_clear_filter(self) -> None:
        self.results.query_text = ""
        self._dirty.add("results")

    def action_sort(self) -> None:
        self.results.next_order()
        self.settings.oldest_first = self.results.order == "oldest first"
        self.remember()
        self._dirty.add("results")

    def action_copy(self) -> None:
        if self.results.selected is not None:
            self.copy_commit(self.results.selected)

    # --- keys: the screen ---

    def action_panel(self, name: str) -> None:
        self._active = name
        self.lay_out()
        self.query_one(f"#{name}").focus()

    def action_seats(self) -> None:
        if self.seats.display:
            self.seats.focus()
        else:
            self.link.toast("this run has one seat: the strip shows what trains there")

    def action_zoom(self) -> None:
        self._zoomed = not self._zoomed
        self.lay_out()

    def action_follow(self) -> None:
        self.transcript.action_follow()
        self._look_at_conversation()

    def action_conversation(self) -> None:
        self.transcript.next_conversation(self.link.state)
        self._look_at_conversation()

    def _look_at_conversation(self) -> None:
        self.looked_at = self.transcript.under_cursor
        self._dirty |= {"status", "diff"}

    def action_runs(self) -> None:
        if self._others is None:
            self.link.toast("a recording is shown: there is no list of runs here", "warning")
        else:
            self.app.push_screen(RunsScreen(self._others.runs, self.link), self._others.show)

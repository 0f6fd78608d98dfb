"""What each key does: commands to the engine, questions to the human, moves on the screen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from textual.app import App
from textual.screen import Screen

from loop import events as ev
from loop.client import Connection, ConnectionLost, Refused
from loop.state import Experiment, RunState
from tui.actions import BY_NAME
from tui.editor import edit
from tui.panels.diff import Diff
from tui.panels.results import Results
from tui.panels.transcript import Transcript
from tui.screens.ask import Ask, Choose
from tui.screens.experiment import ExperimentScreen
from tui.screens.help import Help
from tui.screens.log import LogScreen
from tui.settings import Settings
from tui.text import safe
from tui.theme import THEMES

Severity = Literal["information", "warning", "error"]

NONE_PICKED = "put the cursor on a candidate that waits or is queued"


class Keys(App[int]):
    """The actions of `tui.actions`; `Cockpit` gives them a screen and a connection."""

    connection: Connection | None
    state: RunState
    settings: Settings
    last_words: str
    """Printed when the screen is gone."""
    _active: str
    _zoomed: bool
    _dirty: set[str]
    _picked: int | None = None
    """In approval mode: the candidate on which the human has put the cursor."""

    @property
    def main(self) -> Screen[object]:
        """The screen of panels, whatever lies above it."""
        screen: Screen[object] = self.screen_stack[0]
        return screen

    @property
    def transcript(self) -> Transcript:
        return self.main.query_one("#agent", Transcript)

    @property
    def diff(self) -> Diff:
        return self.main.query_one("#diff", Diff)

    @property
    def results(self) -> Results:
        return self.main.query_one("#results", Results)

    @property
    def picked(self) -> Experiment | None:
        """The candidate of the diff panel: the one under the cursor, else the one that waits longest."""
        return self._in_queue(self._picked) or self.state.waiting

    @property
    def candidate(self) -> Experiment | None:
        """What keys act on: the candidate that is open on its own screen, else that of the diff panel."""
        opened = self.screen.n if isinstance(self.screen, ExperimentScreen) else None
        return self._in_queue(opened) or self.picked

    def _in_queue(self, n: int | None) -> Experiment | None:
        return next((e for e in self.state.queue if e.n == n), None)

    def lay_out(self) -> None:
        raise NotImplementedError

    def remember(self, **changes: Any) -> None:
        raise NotImplementedError

    def toast(self, text: str, severity: Severity = "information") -> None:
        self.notify(safe(text), severity=severity, markup=False)

    # --- keys: the run ---

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that do nothing now are not offered; other screens keep the run's keys and have their own."""
        known = BY_NAME.get(action)
        if known is None:
            return True
        if len(self.screen_stack) > 1 and known.group != "Run" and action not in ("theme", "help"):
            return False
        return known.available(self.state)

    def command(self, command: ev.AnyCommand) -> None:
        """Send a command; what the engine answers appears as a toast."""
        self.run_worker(self._send(command), group="commands")

    async def _send(self, command: ev.AnyCommand) -> None:
        if self.connection is None:
            self.toast("not connected yet", "warning")
            return
        try:
            self.toast(await self.connection.send(command))
        except (Refused, ConnectionLost) as error:
            self.toast(str(error), "warning")

    def action_pause(self) -> None:
        self.command(ev.Pause() if self.state.paused is None else ev.Resume())

    def action_approve(self) -> None:
        if self.state.live.asked:
            self.command(ev.Permit(True, self.state.live.asked[0].id))
        else:
            self.command(ev.Approve(e.n if (e := self.candidate) else None))

    def action_reject(self) -> None:
        if self.state.live.asked:
            self.command(ev.Permit(False, self.state.live.asked[0].id))
        elif e := self.candidate:
            n = e.n
            self._ask(f"Why not? (rejects #{n}; the agent reads it)", lambda text: ev.Reject(text, n))
        else:
            self.toast(NONE_PICKED, "warning")

    def action_first(self) -> None:
        if e := self.candidate:
            self.command(ev.Approve(e.n, first=True))
        else:
            self.toast(NONE_PICKED, "warning")

    def action_steer(self) -> None:
        self._ask("To the agent", ev.Steer, "it reads this at its next step; enter sends, esc goes back")

    def _ask(self, question: str, make: Callable[[str], ev.AnyCommand], hint: str = "") -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self.command(make(text))

        self.push_screen(Ask(question, hint), answered)

    def action_mode(self) -> None:
        self.command(ev.SetMode(not self.state.approval))

    def action_stop_run(self) -> None:
        self.command(ev.StopTraining())

    def action_stop_engine(self) -> None:
        def answered(key: str | None) -> None:
            if key is not None:
                self.command(ev.StopEngine(now=key == "n"))

        choices = {"a": "after the run under way", "n": "now; that run starts again next time"}
        self.push_screen(Choose("Stop the engine?", choices), answered)

    def action_edit(self) -> None:
        e = self.candidate
        if e is not None and e.phase != "waiting":
            self.toast(f"#{e.n} is approved already", "warning")
        elif e is not None:
            self.run_worker(edit(self, e.n), group="edit", exclusive=True)

    def ask_override(self, n: int, status: Literal["keep", "discard"]) -> None:
        def answered(key: str | None) -> None:
            if key is not None:
                self.command(ev.Override(n, status, "by hand"))

        question = f"Change the verdict on #{n} to {status}?"
        self.push_screen(Choose(question, {"y": "yes; branch and results.tsv follow"}), answered)

    # --- keys: the past ---

    def action_open(self, n: int | None = None) -> None:
        n = n or self.results.selected
        if n is not None:
            self.push_screen(ExperimentScreen(n))

    def on_lines_chosen(self, event: Results.Chosen) -> None:
        if event.lines is self.results:
            self.action_open()

    def on_lines_moved(self, event: Results.Moved) -> None:
        """In approval mode the cursor picks the candidate that is shown and that keys act on."""
        if event.lines is self.results and self.state.approval:
            self._picked = self.results.selected
            self._dirty.add("diff")

    def action_walk(self, by: int) -> None:
        selected = self.results.selected
        if selected is not None:
            self.results.go_to(selected + by)
            self.action_panel("results")

    def action_best(self) -> None:
        if self.state.incumbent:
            self.action_panel("results")
            self.results.go_to(self.state.incumbent)

    def action_filter(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self.results.query_text = text.strip()
                self._dirty.add("results")

        self.action_panel("results")
        hint = "words, fuzzy; !word: without; status:keep, commit:7f2a, author:human"
        self.push_screen(Ask("Filter", hint, self.results.query_text), answered)

    def action_clear_filter(self) -> None:
        self.results.query_text = ""
        self._dirty.add("results")

    def action_sort(self) -> None:
        self.results.next_order()
        self.remember(oldest_first=self.results.order == "oldest first")
        self._dirty.add("results")

    def action_copy(self) -> None:
        if self.results.selected is not None:
            self.copy_commit(self.results.selected)

    def copy_commit(self, n: int) -> None:
        commit = self.state.experiment(n).commit
        if commit:
            self.copy_to_clipboard(commit)
            self.toast(f"copied {commit[:7]}")

    # --- keys: the screen ---

    def action_panel(self, name: str) -> None:
        self._active = name
        self.lay_out()
        self.main.query_one(f"#{name}").focus()

    def action_zoom(self) -> None:
        self._zoomed = not self._zoomed
        self.lay_out()

    def action_follow(self) -> None:
        self.transcript.action_follow()

    def action_split(self) -> None:
        self.remember(split=not self.settings.split)

    def action_wrap(self) -> None:
        self.remember(wrap=not self.settings.wrap)

    def action_hunk(self, direction: int) -> None:
        self.diff.go_to_hunk(direction)

    def action_log(self) -> None:
        self.push_screen(LogScreen(self.state))

    def action_theme(self) -> None:
        names = [theme.name for theme in THEMES]
        index = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(index + 1) % len(names)]

    def action_help(self) -> None:
        self.push_screen(Help())

    def action_help_panel(self) -> None:
        self.action_help()

    async def action_quit(self) -> None:
        self.action_detach()

    def action_detach(self) -> None:
        if self.state.tag and self.state.stopped is None:
            self.last_words = (
                f"the engine goes on: `autoresearch-tui attach --tag {self.state.tag}` shows it again, "
                f"`autoresearch-tui stop --tag {self.state.tag}` ends it"
            )
        self.exit(0)

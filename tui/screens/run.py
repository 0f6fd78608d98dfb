"""What the main screen and the screen of one experiment share: keys that command the run, and a diff."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual.binding import ActiveBinding, Binding
from textual.screen import Screen

from loop import events as ev
from loop.state import Experiment
from tui.actions import ACTIONS, ACTIONS_BY_NAME, ON_EVERY_SCREEN, Action
from tui.editor import edit
from tui.keys import UNBOUND
from tui.link import Link
from tui.panels.diff import Diff
from tui.screens.ask import Ask, Choose
from tui.screens.fitted import Fitted
from tui.screens.help import Help
from tui.screens.log import LogScreen
from tui.screens.messages import MessagesScreen
from tui.screens.system import SystemScreen
from tui.settings import Settings
from tui.text import limits_line
from tui.theme import THEMES

NO_CANDIDATE = "put the cursor on a candidate that waits or is queued"


class RunScreen(Fitted, Screen[None]):
    """A screen on which the run can be commanded. A subclass binds these keys together with its own.

    `settings` are shared by all screens; `remember` writes them to their file.
    """

    actions: ClassVar[tuple[Action, ...]] = ON_EVERY_SCREEN
    """What the command palette offers on this screen."""

    def __init__(self, link: Link, settings: Settings, remember: Callable[[], None]) -> None:
        super().__init__()
        self.link = link
        self.settings = settings
        self.remember = remember
        self.picked: int | None = None
        """In approval mode: number of the candidate on which the human has put the cursor."""

        self._available: tuple[bool, ...] = ()
        """Which actions could be taken when the footer was painted, and whether the run was not paused."""

    @property
    def candidate(self) -> Experiment | None:
        """The candidate that the keys act on: the one the human picked, else the one that waits longest."""
        return self.in_queue(self.picked) or self.link.state.waiting

    def in_queue(self, n: int | None) -> Experiment | None:
        """Experiment `n` when it waits for approval or to be trained, else None."""
        return next((e for e in self.link.state.queue if e.n == n), None)

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """For the footer: in the table's order, without actions whose key the settings took away."""
        order = {b.id: i for i, b in enumerate(self.BINDINGS) if isinstance(b, Binding) and b.id}
        found = [
            (key, self._named(active)) for key, active in super().active_bindings.items() if key != UNBOUND
        ]
        return dict(sorted(found, key=lambda pair: order.get(pair[1].binding.id or "", -1)))

    def _named(self, active: ActiveBinding) -> ActiveBinding:
        """A key with the name of what it does now: the one that pauses a run lets a paused one go on."""
        if active.binding.action != "pause" or self.link.state.paused is None:
            return active
        return active._replace(binding=replace(active.binding, description="Resume"))

    def refresh_keys(self) -> None:
        """Let the footers of all screens follow when other keys can be used than before."""
        available = (*(a.available(self.link.state) for a in ACTIONS), self.link.state.paused is None)
        if available != self._available:
            self._available = available
            for screen in self.app.screen_stack:
                screen.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual asks this for each key: a key that would do nothing now is not offered."""
        known = ACTIONS_BY_NAME.get(action)
        return known is None or known.available(self.link.state)

    def action_pause(self) -> None:
        self.link.send(ev.Pause() if self.link.state.paused is None else ev.Resume())

    def action_approve(self) -> None:
        if asked := self.link.state.live.asked:
            self.link.send(ev.Permit(True, asked[0].id))
        else:
            self.link.send(ev.Approve(e.n if (e := self.candidate) else None))

    def action_reject(self) -> None:
        if asked := self.link.state.live.asked:
            self.link.send(ev.Permit(False, asked[0].id))
        elif e := self.candidate:
            n = e.n
            self._ask(f"Why not? (rejects #{n}; the agent reads it)", lambda text: ev.Reject(text, n))
        else:
            self.link.toast(NO_CANDIDATE, "warning")

    def action_first(self) -> None:
        if e := self.candidate:
            self.link.send(ev.Approve(e.n, first=True))
        else:
            self.link.toast(NO_CANDIDATE, "warning")

    def action_edit(self) -> None:
        e = self.candidate
        if e is not None and e.phase != "waiting":
            self.link.toast(f"#{e.n} is approved already", "warning")
        elif e is not None:
            self.run_worker(edit(self.app, self.link, e.n), group="edit", exclusive=True)

    def action_steer(self) -> None:
        self._ask(
            "To the agent",
            ev.Steer,
            "it reads this at its next step, and answers a question (?); enter sends, esc goes back",
        )

    def _ask(self, question: str, make: Callable[[str], ev.AnyCommand], hint: str = "") -> None:
        """Ask for a line of text and send the command made of it."""

        def answered(text: str | None) -> None:
            if text is not None:
                self.link.send(make(text))

        self.app.push_screen(Ask(question, hint), answered)

    def action_messages(self) -> None:
        self.app.push_screen(MessagesScreen(self.link))

    def action_limits(self) -> None:
        def answered(text: str | None) -> None:
            if text is not None:
                self.link.send(ev.SetLimits(text))

        hint = "experiments 100, hours 8, cost 20, crashes 10, until val_bpb < 1.2   (empty: none)"
        self.app.push_screen(
            Ask("The run ends by itself after", hint, limits_line(self.link.state.limits)), answered
        )

    def action_mode(self) -> None:
        self.link.send(ev.SetMode(not self.link.state.approval))

    def action_stop_training(self) -> None:
        self.link.send(self.training_to_stop())

    def training_to_stop(self) -> ev.StopTraining:
        """The training that the key ends: the only one, or the one that trains longest."""
        return ev.StopTraining()

    def action_stop_engine(self) -> None:
        def answered(key: str | None) -> None:
            if key is not None:
                self.link.send(ev.StopEngine(now=key == "n"))

        choices = {
            "a": "after the training under way",
            "n": "now; that training starts again next time",
        }
        self.app.push_screen(Choose("Stop this run's engine?", choices), answered)

    def action_theme(self) -> None:
        names = [theme.name for theme in THEMES]
        index = names.index(self.app.theme) if self.app.theme in names else -1
        self.app.theme = names[(index + 1) % len(names)]

    def action_log(self) -> None:
        self.app.push_screen(LogScreen(self.link))

    def action_system(self) -> None:
        self.app.push_screen(SystemScreen(self.link))

    def action_help(self) -> None:
        self.app.push_screen(Help(self.link.state, self.link.keys))

    # --- the diff ---

    @property
    def diff(self) -> Diff:
        return self.query_one(Diff)

    def lay_out_diff(self) -> None:
        """Show the diff in one column or two, wrapped or not, as the settings say."""
        self.diff.set_layout(self.settings.split, self.settings.wrap)

    def action_split(self) -> None:
        self.settings.split = not self.settings.split
        self.remember()
        self.lay_out_diff()

    def action_wrap(self) -> None:
        self.settings.wrap = not self.settings.wrap
        self.remember()
        self.lay_out_diff()

    def action_hunk(self, direction: int) -> None:
        self.diff.go_to_hunk(direction)

    def copy_commit(self, n: int) -> None:
        """Copy the commit of experiment `n` through the terminal (OSC 52), when it has one."""
        if commit := self.link.state.experiment(n).commit:
            self.app.copy_to_clipboard(commit)
            self.link.toast(f"copied {commit[:7]}")

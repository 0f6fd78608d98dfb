"""The form for a new run: agent, model, budget and so on, and beside each choice what is set up here."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Checkbox, Input, Static

from loop.client import Finding, NewRun, Refused, RunOverview, Runs
from tui.lines import Item, Lines
from tui.screens.fitted import Fitted
from tui.text import safe

SYMBOLS = {"ok": ("✓", "$keep"), "none": ("·", "$neutral"), "wrong": ("!", "$discard")}
FIELDS = {
    "model": "the agent's own choice",
    "budget": "seconds a training",
    "workers": "trainings at once, or auto",
    "limits": "",
}
"""The fields to type in, and what stands beside each before more is known."""
LIMITS = "experiments 100, hours 8, until val_bpb < 1.2"
"""Stands in the field for limits while it is empty."""
APPROVAL = {True: "yes: every candidate waits for you", False: "no"}
HINT = "enter starts it, tab and arrows move, esc goes back"


class Box(Checkbox):
    """A check box that is empty while it is off: Textual's shows its mark in either state."""

    BUTTON_INNER = " "

    def on_checkbox_changed(self) -> None:
        self.BUTTON_INNER = Checkbox.BUTTON_INNER if self.value else Box.BUTTON_INNER
        self.refresh()


class NewRunScreen(Fitted, ModalScreen[RunOverview | None]):
    """Asks what a new run is to be, starts its engine, and answers with the run."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("enter", "start", "Start", priority=True),
        # With priority, because what is typed right after it must not land in the field before.
        Binding("tab", "app.focus_next", "Next", show=False, priority=True),
        Binding("shift+tab", "app.focus_previous", "Previous", show=False, priority=True),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]

    class Found(Message):
        """Something was found about one of the choices."""

        def __init__(self, finding: Finding) -> None:
            super().__init__()
            self.finding = finding

    def __init__(self, runs: Runs, root: str) -> None:
        """`root` is the folder of the repository."""
        super().__init__()
        self._runs, self._root = runs, root
        self._findings: dict[str, Finding] = {}
        self._starting = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog", id="new-run") as box:
            box.border_title = Content(f"New run in {safe(Path(self._root).name)}")
            yield Lines(id="agents", wrap=False, cursor=True)
            for name, words in FIELDS.items():
                with Horizontal(classes="field"):
                    yield Static(f"{name:8}", classes="label")
                    placeholder = LIMITS if name == "limits" else ""
                    yield Input(id=name, placeholder=placeholder, select_on_focus=False)
                    yield Static(Content.styled(words, "$neutral"), id=f"{name}-found")
            with Horizontal(classes="field"):
                yield Static("approval", classes="label")
                yield Box(id="approve")
                yield Static(Content.styled(APPROVAL[False], "$neutral"), id="approve-found")
            yield Static(id="root-found")
            yield Static(Content.styled(HINT, "$neutral"), id="said")

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        words = APPROVAL[event.value] if event.value else self._plain_approval
        self.query_one("#approve-found", Static).update(Content.styled(words, "$neutral"))

    @property
    def _plain_approval(self) -> str:
        """What an empty check box means: the repository may ask for approval by itself."""
        found = self._findings.get("approve")
        return safe(found.text) if found else APPROVAL[False]

    def on_mount(self) -> None:
        self._show_agents()
        self.query_one("#agents", Lines).select(0)
        self.query_one("#agents", Lines).focus()
        self.run_worker(self._look, thread=True, group="look")

    def _look(self) -> None:
        self._runs.look(self._root, lambda finding: self.post_message(self.Found(finding)))

    def on_new_run_screen_found(self, event: NewRunScreen.Found) -> None:
        finding = event.finding
        self._findings[finding.about] = finding
        if finding.about in self._runs.agents:
            self._show_agents()
        elif found := self.query(f"#{finding.about}-found"):
            symbol, style = SYMBOLS[finding.state]
            mark = (f"{symbol} ", style) if finding.state != "ok" else ("", style)
            found.first(Static).update(Content.assemble(mark, (safe(finding.text), "$neutral")))

    def _show_agents(self) -> None:
        """The agents, each with what was found."""
        lines = self.query_one("#agents", Lines)
        at = lines.cursor or 0
        lines.show([Item(self._agent(name, i == at)) for i, name in enumerate(self._runs.agents)])
        lines.select(at)

    def on_lines_moved(self) -> None:
        self._show_agents()

    def _agent(self, name: str, chosen: bool) -> Content:
        found = self._findings.get(name)
        symbol, style = SYMBOLS[found.state] if found else ("…", "$neutral")
        words = safe(found.text) if found else "looking"
        arrow = ("▸ " if chosen else "  ", "bold")
        return Content.assemble(arrow, (f"{symbol} ", style), (f"{name:12} ", "bold"), (words, "$neutral"))

    def action_back(self) -> None:
        """Leave the form, but not while an engine starts: nobody would be told of it."""
        if not self._starting:
            self.dismiss(None)

    def action_start(self) -> None:
        if not self._starting:
            self._starting = True
            self._say("starting the engine", "$training")
            wanted = self._wanted()
            self.run_worker(lambda: self._start(wanted), thread=True, group="start")

    def _wanted(self) -> NewRun:
        """What the form holds."""
        lines = self.query_one("#agents", Lines)
        typed = {name: self.query_one(f"#{name}", Input).value for name in FIELDS}
        agent = self._runs.agents[lines.cursor or 0]
        return NewRun(self._root, agent, approve=self.query_one(Checkbox).value, **typed)

    def _start(self, wanted: NewRun) -> None:
        """In a thread: start the engine; where that is refused, the form stays as it is and says why."""
        try:
            run = self._runs.start(wanted)
        except Refused as error:
            self.app.call_from_thread(self._refused, str(error))
        else:
            self.app.call_from_thread(self.dismiss, run)

    def _refused(self, why: str) -> None:
        self._starting = False
        self._say(why, "$discard")

    def _say(self, words: str, style: str) -> None:
        self.query_one("#said", Static).update(Content.styled(safe(words), style))

"""The screen of one experiment: the verdict, and tabs with diff, log, transcript, loss curve, trainings."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static, TabbedContent, TabPane

from loop.client import ConnectionLost, Refused
from loop.events import ExperimentDetail, Override, RunAgain, StopTraining
from loop.state import Experiment, RunState, Training
from tui.actions import IN_EXPERIMENT, ON_EVERY_SCREEN, bindings
from tui.curves import Curve, Curves
from tui.editor import edit, look
from tui.lines import Item, Lines
from tui.link import Link
from tui.panels.diff import Diff
from tui.panels.footer import KeyBar
from tui.panels.transcript import Transcript
from tui.patch import patch, save
from tui.screens.ask import Choose
from tui.screens.run import RunScreen
from tui.settings import Settings
from tui.text import SYMBOLS, clock, improves, metric, phase_now, plural, safe, short, signed, title

LOADING = "loading ..."


class ExperimentScreen(RunScreen):
    """Shows experiment `n`. `[` and `]` go to its neighbours; the tab stays, to leaf through all diffs.

    `picked` is the candidate that was picked on the main screen: keys act on it while `n` is no candidate.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings((*IN_EXPERIMENT, *ON_EVERY_SCREEN))

    def __init__(
        self, link: Link, settings: Settings, remember: Callable[[], None], n: int, picked: int | None = None
    ) -> None:
        super().__init__(link, settings, remember)
        self.n = n
        self.picked = picked
        self._shown: tuple[object, ...] = ()
        """What the summary was made of: it is made anew when this changes."""
        self._loaded: tuple[object, ...] = ()
        """What the files were loaded for: they are loaded anew when this changes."""
        self._detail: ExperimentDetail | None = None

    @property
    def candidate(self) -> Experiment | None:
        return self.in_queue(self.n) or super().candidate

    def training_to_stop(self) -> StopTraining:
        """This experiment's own, if it trains."""
        return StopTraining(n=self.n) if self.link.state.trains(self.n) else super().training_to_stop()

    def compose(self) -> ComposeResult:
        def name(tab: str) -> Content:
            return Content(f"{self.link.keys[f'tab_{tab}']} {tab.capitalize()}".strip())

        with VerticalScroll(id="summary"):
            yield Static(markup=False)
        with TabbedContent(id="tabs"):
            with TabPane(name("diff"), id="tab-diff"):
                yield Diff(self.link.keys, id="past-diff", empty=LOADING)
            with TabPane(name("log"), id="tab-log"):
                yield Lines(id="past-log", wrap=False, follow=True, empty=LOADING)
            with TabPane(name("transcript"), id="tab-transcript"):
                yield Transcript(self.link.keys, id="past-transcript", follow=False)
            with TabPane(name("curve"), id="tab-curve"):
                yield Curves(id="past-curve")
            with TabPane(name("trainings"), id="tab-trainings"):
                yield Lines(id="past-trainings")
        yield KeyBar((*IN_EXPERIMENT, *ON_EVERY_SCREEN))

    def on_mount(self) -> None:
        self.show()
        self.query_one("#past-diff").focus()

    def show(self) -> None:
        """Bring the screen up to date with the run's state; load the files again when they have changed."""
        state = self.link.state
        if not 1 <= self.n <= len(state.experiments):
            return
        e = state.experiment(self.n)
        models = [model for model in state.models if model[0] == e.n]
        made_of = (self.n, phase_now(e, state), e.commit, e.reason, len(e.trainings), state.incumbent, models)
        if made_of == self._shown:
            return
        self._shown = made_of
        self.query_one("#summary Static", Static).update(summary(e, state))
        past = self.query_one("#past-trainings", Lines)
        past.empty = nothing(e)["log"]
        past.show(trainings(e, state))
        self.refresh_bindings()
        if self._loaded != (self.n, e.phase, e.commit):
            self._loaded = (self.n, e.phase, e.commit)
            self.run_worker(self._load(self.n), exclusive=True, group="detail")

    async def _load(self, n: int) -> None:
        incumbent = self.link.state.incumbent
        try:
            detail = await self.link.connection.experiment(n)
            other = await self.link.connection.experiment(incumbent) if incumbent and incumbent != n else None
        except (Refused, ConnectionLost) as error:
            self.link.toast(str(error), "warning")
            return
        if n == self.n:  # the human may have gone on to another one
            self._show_detail(detail, other)

    def _show_detail(self, detail: ExperimentDetail, other: ExperimentDetail | None) -> None:
        self._detail = detail
        for name, empty in nothing(self.link.state.experiment(detail.n)).items():
            self.query_one(f"#past-{name}", Lines).empty = empty
        self.lay_out_diff()
        self.diff.compare(detail.before, detail.after)
        log = self.query_one("#past-log", Lines)
        log.show([Item(Content(line)) for line in safe(detail.log).split("\n")] if detail.log else [])
        self.query_one("#past-transcript", Transcript).reset(detail.transcript)
        curves = [Curve(f"incumbent #{other.n}", "gray", other.curve)] if other else []
        curves.append(Curve(f"#{detail.n}", "orange", detail.curve))
        self.query_one("#past-curve", Curves).show(curves)

    # --- keys ---

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what has a verdict and a value can be trained again, or have its verdict changed."""
        if action in ("again", "override") and 1 <= self.n <= len(self.link.state.experiments):
            e = self.link.state.experiment(self.n)
            return e.judged and e.value is not None
        return super().check_action(action, parameters)

    def action_walk(self, by: int) -> None:
        n = self.n + by
        if 1 <= n <= len(self.link.state.experiments):
            self.n = n
            self.show()

    def action_tab(self, name: str) -> None:
        self.query_one(TabbedContent).active = f"tab-{name}"
        self.query_one(f"#past-{name}").focus()

    def action_copy(self) -> None:
        self.copy_commit(self.n)

    def action_copy_patch(self) -> None:
        if text := self._patch():
            self.app.copy_to_clipboard(text)
            self.link.toast(f"copied the patch of #{self.n}")

    def action_export(self) -> None:
        if text := self._patch():
            try:
                self.link.toast(f"saved {save(text, self.link.state, self.n)}")
            except OSError as error:
                self.link.toast(f"not saved: {error}", "error")

    def _patch(self) -> str:
        text = patch(self._detail) if self._detail and self._detail.n == self.n else ""
        if not text:
            self.link.toast("nothing changed here", "warning")
        return text

    def action_look(self) -> None:
        show = edit if self.link.state.experiment(self.n).phase == "waiting" else look
        self.run_worker(show(self.app, self.link, self.n), group="edit", exclusive=True)

    def action_again(self) -> None:
        self.link.send(RunAgain(self.n))

    def action_override(self, status: Literal["keep", "discard"]) -> None:
        n = self.n

        def answered(key: str | None) -> None:
            if key is not None:
                self.link.send(Override(n, status, "by hand"))

        question = f"Change the verdict on #{n} to {status}?"
        self.app.push_screen(Choose(question, {"y": "yes; branch and results.tsv follow"}), answered)


def nothing(e: Experiment) -> dict[str, str]:
    """What the panels of diff and log say when their files are loaded and empty."""
    diff = "no commit yet: the agent works on it"
    if e.phase != "proposing":
        diff = "no commit: this was never finished"
    log = "it printed nothing"
    if not e.trainings:
        log = "it never trained" if e.judged or e.phase == "rejected" else "not trained yet: it waits"
    elif e.phase == "training":
        log = "it has printed nothing yet"
    return {"diff": diff, "log": log}


def summary(e: Experiment, state: RunState) -> Content:
    """About an experiment: verdict and figures, description, reason of the verdict, hypothesis."""
    phase = phase_now(e, state)
    symbol, style = SYMBOLS[phase]
    figures = [
        (f"{safe(state.tag)} #{e.n} ", "bold"),
        (f"{symbol} {phase}", f"bold {style}"),
        (f"   {safe(state.metric)} {metric(e.value)}", "$measure"),
        (compared(e, state), "$keep" if e.phase == "keep" else "$neutral"),
        ("   model kept" if any(n == e.n for n, _ in state.models) else "", "$keep"),
    ]
    details = [
        (f"commit {safe(e.commit)[:7]}" if e.commit else "", "$neutral"),
        (f"parent {safe(e.parent)[:7]}", "$neutral"),
        (f"+{e.added} -{e.removed}", "$neutral"),
        (f"by {e.author}" if e.author != "agent" else "", "$agent"),
        (f"{short(e.usage.output_tokens)} tok out" if e.usage.output_tokens else "", "$neutral"),
        (f"${e.usage.dollars:.3f}" if e.usage.dollars is not None else "", "$measure"),
    ]
    lines = [
        Content.assemble(*figures),
        Content("   ").join(Content.styled(text, style) for text, style in details if text),
        Content.styled(title(e), "bold"),
        Content.styled(safe("   audit: ".join([e.reason, *e.findings])).replace("\n", " "), style),
        Content.styled(safe(e.hypothesis).replace("\n", " "), "$agent"),
    ]
    return Content("\n").join(line for line in lines if line.plain)


def compared(e: Experiment, state: RunState) -> str:
    """How far its value is from the incumbent of its time, in figures and in a word; empty if it is not."""
    if not e.delta:
        return ""
    return f" ({signed(e.delta)}, {'better' if improves(e, state) else 'worse'})"


def place(e: Experiment, training: Training, state: RunState) -> str:
    """Name of the machine where a training ran or runs; empty where that is not known."""
    if training.finished is not None:
        return training.finished.place
    view = state.live.seat_of(e.n, training.number)
    return view.place if view else ""


def trainings(e: Experiment, state: RunState) -> list[Item]:
    """For each training of the experiment: its seed, how it ended, what it measured, and its model."""
    found: list[Item] = []
    for training in e.trainings:
        head = f"training {training.number}   seed {training.seed}   commit {safe(training.commit)[:7]}"
        head += f"   seat {training.started.seat}" if state.engine and state.engine.seats > 1 else ""
        if where := place(e, training, state):
            head += f"   on {safe(where)}"
        found.append(Item(Content.styled(f"{head}   budget {clock(training.budget_s)}", "bold")))
        ended = training.finished
        if ended is None:
            cut_off = state.stopped is not None
            words = "  stopped with the engine: it starts again" if cut_off else "  under way"
            found.append(Item(Content.styled(words, "$neutral" if cut_off else "$training")))
            continue
        measured = f"  {ended.outcome}   {metric(ended.value)}   {ended.memory_gb:.1f} GB"
        source = "as printed by the script"
        if ended.verified:
            proved = f"{ended.probes} claims proved"
            source = f"measured by the judge in {ended.judge_seconds:.0f} s, {proved}"
        found.append(Item(Content.styled(f"{measured}   {source}", "$measure")))
        if ended.model_bytes:
            fate = "kept" if (e.n, training.number) in state.models else "deleted"
            found.append(Item(Content.styled(f"  model of {short(ended.model_bytes)}B {fate}", "$neutral")))
        if ended.reason:
            found.append(Item(Content.styled(f"  {safe(ended.reason)}", "$discard")))
        found += [
            Item(Content.styled(f"  {safe(key)}: {safe(str(value))}", "$neutral"))
            for key, value in training.summary.items()
        ]
    if e.trainings:
        found.append(Item(Content.styled(plural(len(e.trainings), "training"), "$neutral")))
    return found

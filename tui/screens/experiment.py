"""One experiment: what it was for, its verdict, and behind tabs its diff, log, transcript and loss curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static, TabbedContent, TabPane
from textual_plotext import PlotextPlot

from loop.client import ConnectionLost, Refused
from loop.events import CurvePoint, ExperimentDetail, RunAgain
from loop.state import Experiment, RunState
from tui.actions import IN_EXPERIMENT, bindings
from tui.editor import edit, look
from tui.lines import Item, Lines
from tui.panels.diff import Diff
from tui.panels.training import loss_at
from tui.panels.transcript import Transcript
from tui.patch import patch, save
from tui.text import MARKS, clock, metric, plural, safe, short, signed, title

if TYPE_CHECKING:
    from tui.app import Cockpit


class ExperimentScreen(Screen[None]):
    """Walk with `[` and `]`; the tab stays, so that one can leaf through all diffs of a night."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(IN_EXPERIMENT)

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self._drawn: tuple[object, ...] = ()
        self._loaded: tuple[object, ...] = ()
        self._detail: ExperimentDetail | None = None

    @property
    def cockpit(self) -> Cockpit:
        return cast("Cockpit", self.app)

    def compose(self) -> ComposeResult:
        yield Static(id="summary", markup=False)
        with TabbedContent(id="tabs"):
            with TabPane("1 Diff", id="tab-diff"):
                yield Diff(id="past-diff", empty="no commit: this was never finished")
            with TabPane("2 Log", id="tab-log"):
                yield Lines(id="past-log", wrap=False, follow=True, empty="it never ran")
            with TabPane("3 Transcript", id="tab-transcript"):
                yield Transcript(id="past-transcript", follow=False)
            with TabPane("4 Curve", id="tab-curve"):
                yield PlotextPlot(id="past-curve")
            with TabPane("5 Trainings", id="tab-trainings"):
                yield Lines(id="past-trainings", empty="it never ran")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        self.show()
        self.query_one("#past-diff").focus()

    def show(self) -> None:
        """Bring the screen up to date with the run's state; loads the files when they have changed."""
        state = self.cockpit.state
        if not 1 <= self.n <= len(state.experiments):
            return
        e = state.experiment(self.n)
        key = (self.n, e.phase, e.commit, e.reason, len(e.trainings), state.incumbent)
        if key == self._drawn:
            return
        self._drawn = key
        self.query_one("#summary", Static).update(summary(e, state))
        self.query_one("#past-trainings", Lines).show(trainings(e))
        if self._loaded != (self.n, e.phase, e.commit):
            self._loaded = (self.n, e.phase, e.commit)
            self.run_worker(self._load(self.n), exclusive=True, group="detail")

    async def _load(self, n: int) -> None:
        connection = self.cockpit.connection
        if connection is None:
            return
        try:
            detail = await connection.experiment(n)
            incumbent = self.cockpit.state.incumbent
            other = await connection.experiment(incumbent) if incumbent and incumbent != n else None
        except (Refused, ConnectionLost) as error:
            self.notify(str(error), severity="warning", markup=False)
            return
        if n == self.n and self.is_mounted:
            self._show_detail(detail, other)

    def _show_detail(self, detail: ExperimentDetail, other: ExperimentDetail | None) -> None:
        self._detail = detail
        settings = self.cockpit.settings
        diff = self.query_one("#past-diff", Diff)
        diff.set_layout(settings.split, settings.wrap)
        diff.compare(detail.before, detail.after)
        log = self.query_one("#past-log", Lines)
        log.show([Item(Content(line)) for line in safe(detail.log).split("\n")] if detail.log else [])
        self.query_one("#past-transcript", Transcript).reset(detail.transcript)
        draw_curve(self.query_one("#past-curve", PlotextPlot), detail, other)

    # --- keys ---

    def action_walk(self, by: int) -> None:
        n = self.n + by
        if 1 <= n <= len(self.cockpit.state.experiments):
            self.n = n
            self.show()

    def action_tab(self, name: str) -> None:
        self.query_one(TabbedContent).active = f"tab-{name}"
        self.query_one(f"#past-{name}").focus()

    def action_copy(self) -> None:
        self.cockpit.copy_commit(self.n)

    def action_copy_patch(self) -> None:
        if text := self._patch():
            self.app.copy_to_clipboard(text)
            self.cockpit.toast(f"copied the patch of #{self.n}")

    def action_export(self) -> None:
        if text := self._patch():
            try:
                self.cockpit.toast(f"saved {save(text, self.cockpit.state, self.n)}")
            except OSError as error:
                self.cockpit.toast(f"not saved: {error}", "error")

    def _patch(self) -> str:
        text = patch(self._detail) if self._detail and self._detail.n == self.n else ""
        if not text:
            self.cockpit.toast("nothing changed here", "warning")
        return text

    def action_look(self) -> None:
        show = edit if self.cockpit.state.experiment(self.n).phase == "waiting" else look
        self.run_worker(show(self.cockpit, self.n), group="edit", exclusive=True)

    def action_again(self) -> None:
        self.cockpit.command(RunAgain(self.n))

    def action_split(self) -> None:
        self.cockpit.action_split()
        self._relayout()

    def action_wrap(self) -> None:
        self.cockpit.action_wrap()
        self._relayout()

    def _relayout(self) -> None:
        self.query_one(Diff).set_layout(self.cockpit.settings.split, self.cockpit.settings.wrap)

    def action_hunk(self, direction: int) -> None:
        self.query_one(Diff).go_to_hunk(direction)

    def action_override(self, status: str) -> None:
        self.cockpit.ask_override(self.n, "keep" if status == "keep" else "discard")


def summary(e: Experiment, state: RunState) -> Content:
    """Four lines about an experiment: verdict, description, hypothesis, reason."""
    mark, style = MARKS[e.phase]
    parts = [
        (f"{state.tag} #{e.n} ", "bold"),
        (f"{mark} {e.phase}", f"bold {style}"),
        (f"   {state.metric} {metric(e.value)}", "$measure"),
        (
            f" ({signed(e.delta)})" if e.delta is not None else "",
            "$keep" if e.phase == "keep" else "$neutral",
        ),
        (f"   commit {e.commit[:7]}" if e.commit else "", "$neutral"),
        (f"   parent {e.parent[:7]}", "$neutral"),
        (f"   +{e.added} -{e.removed}", "$neutral"),
        (f"   by {e.author}" if e.author != "agent" else "", "$agent"),
        (f"   {short(e.usage.output_tokens)} tok out" if e.usage.output_tokens else "", "$neutral"),
        (f"   ${e.usage.dollars:.3f}" if e.usage.dollars is not None else "", "$measure"),
    ]
    lines = [
        Content.assemble(*parts),
        Content.styled(title(e), "bold"),
        Content.styled(safe(e.hypothesis).replace("\n", " "), "$agent"),
        Content.styled(safe("   audit: ".join([e.reason, *e.findings])).replace("\n", " "), style),
    ]
    return Content("\n").join(lines)


def trainings(e: Experiment) -> list[Item]:
    """Each training process of the experiment: its seed, how it ended and what it measured."""
    found: list[Item] = []
    for training in e.trainings:
        head = f"training {training.number}   seed {training.seed}   commit {training.commit[:7]}"
        found.append(Item(Content.styled(f"{head}   budget {clock(training.budget_s)}", "bold")))
        ended = training.finished
        if ended is None:
            found.append(Item(Content.styled("  under way", "$training")))
            continue
        measured = f"  {ended.outcome}   {metric(ended.value)}   {ended.memory_gb:.1f} GB"
        sealed = "measured by the sealed evaluation" if ended.verified else "as printed by the script"
        found.append(Item(Content.styled(f"{measured}   {sealed}", "$measure")))
        if ended.reason:
            found.append(Item(Content.styled(f"  {safe(ended.reason)}", "$discard")))
        found += [
            Item(Content.styled(f"  {safe(key)}: {safe(str(value))}", "$neutral"))
            for key, value in ended.summary.items()
        ]
    if e.trainings:
        found.append(Item(Content.styled(plural(len(e.trainings), "training"), "$neutral")))
    return found


def draw_curve(plot: PlotextPlot, detail: ExperimentDetail, other: ExperimentDetail | None) -> None:
    """Loss over the share of the budget; the incumbent's behind it."""
    plt = plot.plt
    plt.clear_figure()
    plot.theme = "clear" if plot.app.current_theme.ansi else "auto"
    lows: list[float] = []
    for name, color, curve in (
        (f"incumbent #{other.n}", "gray", other.curve) if other else ("", "", []),
        (f"#{detail.n}", "orange", detail.curve),
    ):
        if len(curve) > 1:
            points = _thin(curve, 2 * max(20, plot.size.width))
            plt.plot(
                [100 * p.fraction for p in points],
                [p.loss for p in points],
                label=name,
                color=color,
                marker="braille",
            )
            lows += [min(p.loss for p in curve), loss_at(curve, 0.1)]
    if lows:
        margin = 0.05 * (max(lows) - min(lows)) or 0.01
        plt.ylim(min(lows) - margin, max(lows) + margin)
        plt.xlabel("% of the budget")
    plot.refresh()


def _thin(curve: list[CurvePoint], most: int) -> list[CurvePoint]:
    return curve[:: max(1, len(curve) // most)]

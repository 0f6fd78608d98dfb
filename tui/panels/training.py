"""The training strip: progress bar, countdown, figures and loss curve of the training under way."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from loop.events import CurvePoint, Progress
from loop.state import RunState, SeatView, Training
from tui.keys import DECISIONS, Keys
from tui.text import clock, safe, short, spark, title

Text = tuple[str, str]
"""A text and its style."""
HERE = platform.node()
"""The engine's machine is the one on which the cockpit runs."""
CLOCK_WIDTH = 20
"""Columns of the countdown; styled the same in tui.tcss."""


class Meter(Struct):
    """Counts down between progress lines: keeps the last one, when it came, and when the first one came."""

    progress: Progress | None = None
    at: float = 0.0
    began: float = 0.0

    def take(self, progress: Progress | None, now: float) -> None:
        """Take in the newest progress line, None before there is one."""
        if progress is not self.progress:
            self.began = now if self.progress is None or progress is None else self.began
            self.progress, self.at = progress, now

    def remaining(self, budget_s: float, now: float) -> float | None:
        """Seconds of budget left now, also while the trainer is silent; None before its first line.

        It counts down from what the trainer says is left, else from its share of the budget. A trainer that
        says neither is taken to train for the budget from its first progress line on.
        """
        p = self.progress
        if p is None:
            return None
        if p.remaining_s is None and not p.fraction:
            return max(0.0, budget_s - (now - self.began))
        left = p.remaining_s if p.remaining_s is not None else budget_s * (1 - p.fraction)
        return max(0.0, left - (now - self.at))


class Line(Static):
    """A text of one row, or of a part of one. It is repainted only when it has changed."""

    _shown: Content | None = None

    def show(self, content: Content) -> None:
        if self._shown is None or not self._shown.is_same(content):
            self._shown = content
            self.update(content, layout=False)


class TrainingStrip(Vertical):
    """Three rows about the training under way, or one sentence that says why nothing trains.

    The countdown is a widget of its own, so that a second in which nothing else changes costs a few bytes.
    """

    def __init__(self, keys: Keys, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._keys = keys
        self.meters: defaultdict[int, Meter] = defaultdict(Meter)
        """One countdown for each seat: the strip may be led back to it."""
        self.reference: Sequence[CurvePoint] = ()
        """The incumbent's loss curve."""
        self._name = self._subtitle = ""

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Line(id="bar")
            yield Line(id="clock")
        yield Line(id="numbers")
        yield Line(id="curves")

    def show_state(self, state: RunState, now: float, seat: int | None = None) -> None:
        """Show the training on this seat; None: the one that trains longest."""
        view = state.seat if seat is None else state.live.seats.get(seat, SeatView())
        meter = self.meters[seat or 0]
        meter.take(view.progress, now)
        training = under_way(state, seat)
        e = state.experiment(training.started.n) if training else None
        width = max(20, self.content_size.width)
        where = on_seat(seat, view)
        name = f"Training {e.n}{where} · {title(e)}" if e else f"Training{where}"
        if name != self._name:
            self._name = name
            self.border_title = Content(name)
        if (text := stopping(state) or needed(training, state.metric)) != self._subtitle:
            self._subtitle = text
            self.border_subtitle = Content.styled(safe(text), "$measure") if text else ""
        rows = (
            running(training, view, meter, self.reference, width, now)
            if training
            else (idle(state, self._keys), *[Content("")] * 3)
        )
        self.query_one("#clock").display = training is not None  # a sentence may need the whole row
        for line, content in zip(("bar", "clock", "numbers", "curves"), rows, strict=True):
            self.query_one(f"#{line}", Line).show(content)


def on_seat(seat: int | None, view: SeatView) -> str:
    """Where it trains, for a title: ` on seat 3, node2`; empty for the only seat, on this machine."""
    words = [f"seat {seat}"] if seat is not None else []
    words += [safe(view.place)[:30]] if view.place not in ("", HERE) else []
    return f" on {', '.join(words)}" if words else ""


def under_way(state: RunState, seat: int | None) -> Training | None:
    """The training on this seat, or with None the one that trains longest.

    There is none once the engine has stopped: one that was cut off starts again next time.
    """
    found = (t for t in state.under_way if seat in (None, t.seat) and state.stopped is None)
    if (started := next(found, None)) is None:
        return None
    return next(t for t in state.experiment(started.n).trainings if t.number == started.training)


def stopping(state: RunState) -> str:
    """Says that the engine will end after the training under way; empty when it will not."""
    if state.stopping is None or state.stopped is not None or state.training is None:
        return ""
    return "the engine stops after this training"


def needed(training: Training | None, metric: str) -> str:
    """What the verdict will need, e.g. `kept if val_bpb ends below 1.08`; empty when nothing trains."""
    words = training.started.needed if training else ""
    if words.startswith(("kept below", "kept above")):
        return f"kept if {metric} ends{words.removeprefix('kept')}"
    return f"if {metric} ends {words}" if words.startswith(("below", "above")) else words


def idle(state: RunState, keys: Keys) -> Content:
    """Why nothing trains."""
    if state.stopped is not None:
        text = f"the engine stopped: {state.stopped}"
    elif state.stopping is not None:
        text = f"the engine stops: {state.stopping}"
    elif judged := state.in_phase("judging"):
        text = f"experiment {judged[0].n} has trained: its verdict is next"
    elif state.live.preparing:
        text = state.live.preparing
    elif state.paused is not None:
        hint = keys.hint(pause="goes on")
        text = f"paused: {state.paused}" + (f"   ({hint})" if hint else "")
    elif state.waiting:
        text = f"experiment {state.waiting.n} waits for you: {keys.hint(**DECISIONS)}"
    elif state.proposing:
        text = f"the agent prepares experiment {state.proposing.n}"
    else:
        text = "starting"
    return Content.styled(safe(text), "$measure" if state.waiting or state.paused else "$neutral")


def running(
    training: Training,
    view: SeatView,
    meter: Meter,
    reference: Sequence[CurvePoint],
    width: int,
    now: float,
) -> tuple[Content, Content, Content, Content]:
    """Bar, countdown, figures and curve of a training under way."""
    phase = safe(view.phase)[:CLOCK_WIDTH].replace("\n", " ") or "training"
    p = meter.progress
    left = meter.remaining(training.budget_s, now)
    if phase in ("starting", "compiling") or p is None or left is None:
        fraction, words = 0.0, f"{phase}  {clock(now - training.started_at)}"
    elif phase == "training":
        fraction = 1 - left / training.budget_s if training.budget_s else p.fraction
        words = f"{100 * fraction:3.0f}%  {clock(left)} left" if left else "budget used up"
    else:
        fraction, words = 1.0, phase
    return (
        bar(fraction, max(10, width - CLOCK_WIDTH)),
        Content.styled(words.rjust(CLOCK_WIDTH), "bold $training"),
        numbers(p, training.number, training.seed, width),
        curves(view.curve, reference, width),
    )


def bar(fraction: float, width: int) -> Content:
    """A line of `width` columns, drawn heavily as far as `fraction`."""
    full = round(width * min(1.0, max(0.0, fraction)))
    return Content.assemble(("━" * full, "$training"), ("─" * (width - full), "$neutral"))


def numbers(p: Progress | None, training: int, seed: int, width: int) -> Content:
    """What the newest progress line says; from the second training of an experiment on, which one it is."""
    parts: list[Text] = []
    if p is not None:
        if p.loss is not None:
            parts.append((f"loss {p.loss:.4f}", "$measure"))
        parts.append((f"step {p.step:,}", ""))
        if p.tokens_per_s is not None:
            parts.append((f"{short(p.tokens_per_s)} tok/s", ""))
        if p.mfu_percent is not None:
            parts.append((f"mfu {p.mfu_percent:.1f}%", ""))
        if p.lrm is not None:
            parts.append((f"lr ×{p.lrm:.2f}", ""))
        if p.epoch is not None:
            parts.append((f"epoch {p.epoch:g}", ""))
        parts += [(safe(f"{key} {value}"), "$neutral") for key, value in p.extra.items()]
    if training > 1:
        parts.append((f"training {training}, seed {seed}", "$neutral"))
    line = Content("   ").join(Content.styled(text, style) for text, style in parts)
    return line.truncate(width, ellipsis=True) if line.cell_length > width else line


def curves(curve: Sequence[CurvePoint], reference: Sequence[CurvePoint], width: int) -> Content:
    """The loss curve so far, and how it compares with the incumbent's at the same share of the budget."""
    if len(curve) < 2:
        return Content("")
    words, style = standing(curve, reference)
    room = max(8, min(60, width - len(words) - 8))
    return Content.assemble(
        ("loss  ", "$neutral"), (spark([p.loss for p in curve], room), "$training"), "  ", (words, style)
    )


def standing(curve: Sequence[CurvePoint], reference: Sequence[CurvePoint]) -> Text:
    """How far the loss is from the incumbent's, e.g. `0.031 ahead of the incumbent`, and the style."""
    if len(reference) < 2 or not curve:
        return "", ""
    last = curve[-1]
    other = loss_at(reference, last.fraction)
    gap = last.loss - other
    if abs(gap) < 0.0005:
        return "level with the incumbent", "$neutral"
    word = "ahead of" if gap < 0 else "behind"
    return f"{abs(gap):.3f} {word} the incumbent", "$keep" if gap < 0 else "$discard"


def loss_at(curve: Sequence[CurvePoint], fraction: float) -> float:
    """The loss at a share of the budget: interpolated, or that of the nearest end outside the curve."""
    i = bisect_left(curve, fraction, key=lambda p: p.fraction)
    if i == 0:
        return curve[0].loss
    if i == len(curve):
        return curve[-1].loss
    a, b = curve[i - 1], curve[i]
    share = (fraction - a.fraction) / ((b.fraction - a.fraction) or 1.0)
    return a.loss + share * (b.loss - a.loss)

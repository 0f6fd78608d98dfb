"""How busy the engine's machine was in the last ten minutes: each GPU, the processors, and the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.screen import ModalScreen

from loop.events import Gpu, Telemetry
from loop.state import MEASURED_TAIL
from tui.actions import closed_by
from tui.lines import Item, Lines
from tui.link import Link
from tui.screens.fitted import Fitted
from tui.text import safe, spark

NAME = 8
"""Columns of a row's name."""
VALUES = {"busy": 4, "memory": 11, "heat": 5, "power": 11}
"""The charts of a row, and the columns that the newest value takes beside each."""
LEAST, MOST = 4, 40
"""Columns of a chart, at least and at most."""
COLDEST, HOTTEST = 20.0, 100.0
"""Range of a chart of temperatures, in degrees Celsius."""
Chart = tuple[Sequence[float | None], float, float, str]
"""Measurements, the ends of their scale, and the newest one as a text."""


class SystemScreen(Fitted, ModalScreen[None]):
    """A row for each GPU, then the processors and the engine; it changes when something was measured."""

    BINDINGS: ClassVar[list[BindingType]] = closed_by("system")

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._shown: Telemetry | None = None

    def compose(self) -> ComposeResult:
        newest = self._link.state.live.telemetry
        lines = Lines(id="system", wrap=False, empty="" if newest else "nothing is measured yet")
        lines.styles.height = height(newest)
        lines.border_subtitle = self._link.keys.hint("esc goes back")
        yield lines

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.show()

    def on_resize(self) -> None:
        self._shown = None
        self.call_after_refresh(self.show)

    def show(self) -> None:
        """Bring the charts up to date; costs little while nothing new was measured."""
        measured = self._link.state.live.measured
        lines = self.query_one(Lines)
        if measured and measured[-1] is not self._shown and lines.size.width:
            self._shown = measured[-1]
            lines.border_title = Content(title(measured[-1]))
            lines.styles.height = height(measured[-1])
            lines.show([Item(row) for row in rows(measured, lines.scrollable_content_region.width)])


def height(newest: Telemetry | None) -> int:
    """Lines of the list with its border: as many as it has rows, one before there are any."""
    return 5 + len(newest.gpus) if newest else 3


def title(newest: Telemetry) -> str:
    """`The engine's machine, last 10 minutes · 8 × NVIDIA H100`."""
    names = Counter(safe(gpu.name) or "GPU" for gpu in newest.gpus)
    gpus = [f"{count} × {name}" if count > 1 else name for name, count in names.items()]
    return " · ".join(["The engine's machine, last 10 minutes", *gpus])


def rows(measured: Sequence[Telemetry], width: int) -> list[Content]:
    """The lines of the screen, at most `width` columns wide."""
    used = NAME + sum(VALUES.values()) + 3 * len(VALUES)
    chart = min(MOST, max(LEAST, (width - used) // len(VALUES)))
    shown = list(VALUES.items())[: None if measured[-1].gpus else 2]
    head = "".join(f"{name:{chart + 1 + size + 2}}" for name, size in shown)
    found = [Content.styled(f"{'':{NAME}}{head}".rstrip(), "$neutral")]
    for i in range(len(measured[-1].gpus)):
        found.append(_row(f"GPU {i}", gpu_charts([_gpu(t, i) for t in measured]), chart))
    return [
        *found,
        _row("CPU", machine_charts(measured), chart),
        _row("engine", engine_charts(measured), chart),
    ]


def _gpu(t: Telemetry, i: int) -> Gpu:
    """GPU `i` of this measurement; one that tells nothing when it had fewer."""
    return t.gpus[i] if i < len(t.gpus) else Gpu()


def gpu_charts(history: Sequence[Gpu]) -> list[Chart]:
    """How busy one GPU is, its memory, temperature and power."""
    now = history[-1]
    size = now.memory_total_gb or max((g.memory_gb or 0.0 for g in history), default=0.0)
    limit = now.power_limit_w or max((g.power_w or 0.0 for g in history), default=0.0)
    return [
        ([g.percent for g in history], 0.0, 100.0, _text(now.percent, "%")),
        ([g.memory_gb for g in history], 0.0, size, _of(now.memory_gb, now.memory_total_gb, "GB")),
        ([g.temperature_c for g in history], COLDEST, HOTTEST, _text(now.temperature_c, "°C")),
        ([g.power_w for g in history], 0.0, limit, _of(now.power_w, now.power_limit_w, "W")),
    ]


def machine_charts(history: Sequence[Telemetry]) -> list[Chart]:
    """How busy the processors are, and the memory."""
    now, total = history[-1], history[-1].memory_total_gb
    return [
        ([t.cpu_percent for t in history], 0.0, 100.0, _text(now.cpu_percent, "%")),
        ([t.memory_gb for t in history], 0.0, total, _of(now.memory_gb, total, "GB")),
    ]


def engine_charts(history: Sequence[Telemetry]) -> list[Chart]:
    """The engine's own share: of one processor, and of the memory."""
    now = history[-1]
    return [
        ([t.engine_cpu_percent for t in history], 0.0, 100.0, _text(now.engine_cpu_percent, "%")),
        ([t.engine_memory_gb for t in history], 0.0, now.memory_total_gb, f"{now.engine_memory_gb:.1f} GB"),
    ]


def _text(value: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.0f}{unit}"


def _of(value: float | None, most: float | None, unit: str) -> str:
    return "–" if value is None else f"{value:.0f}" + (f"/{most:.0f}" if most else "") + f" {unit}"


def _row(name: str, charts: Sequence[Chart], width: int) -> Content:
    styles = ("$training", "$step", "$discard", "$measure")
    cells = [Content.styled(f"{name:{NAME}}", "bold")]
    for (values, low, high, text), size, style in zip(charts, VALUES.values(), styles, strict=False):
        cells.append(Content.styled(_drawn(values, low, high, width), style))
        cells.append(Content(f" {text:>{size}}  "))
    return Content("").join(cells)


def _drawn(values: Sequence[float | None], low: float, high: float, width: int) -> str:
    """The last ten minutes in `width` columns, now at the right; empty where nothing was measured."""
    slots = [None] * (MEASURED_TAIL - len(values)) + list(values)
    edges = [round(i * MEASURED_TAIL / width) for i in range(width + 1)]
    drawn = ""
    for first, end in pairwise(edges):
        known = [value for value in slots[first:end] if value is not None]
        drawn += spark([sum(known) / len(known)], 1, low, high) if known else " "
    return drawn

"""The status line: where the run stands, in one row. What matters least is left out when there is no room."""

from __future__ import annotations

from textual.content import Content

from loop.events import Telemetry
from loop.state import RunState
from tui.panels.training import Line
from tui.text import SYMBOLS, gain, metric, plural, safe, short

Part = tuple[int, str, str]
"""Rank, text and style. The parts with the highest ranks are left out first, those of rank 1 last."""


class Status(Line):
    """One row about the whole run."""

    def show_state(self, state: RunState, link: str, now: float) -> None:
        """`link` says what is wrong with the connection, empty when nothing is."""
        self.show(fit(parts(state, link, now), self.size.width or 120))


def parts(state: RunState, link: str, now: float) -> list[Part]:
    """The pieces of the line, left to right."""
    phase = "connecting" if not state.tag else state.phase
    symbol, style = SYMBOLS[phase]
    number = {"training": state.training, "proposing": state.proposing, "waiting": state.waiting}.get(phase)
    word = phase + (f" {number.n}" if number else "")
    if phase == "training" and state.engine and state.engine.seats > 1:
        word = f"training on {len(state.under_way)} of {state.engine.seats} seats"
    found: list[Part] = [(1, f"autoresearch/{state.tag}" if state.tag else "autoresearch", "bold")]
    found.append((1, f"{symbol} {word}", f"bold {style}"))
    if link:
        found.append((1, link, "bold $measure"))
    if state.paused is not None and phase != "paused":
        found.append((1, "‖ pausing", "$measure"))
    if state.stopping is not None and phase != "stopped":
        found.append((1, "■ stopping", "$measure"))
    if state.approval:
        found.append((3, "approval on", "$measure"))
    if state.best is not None:
        found.append((1, f"best {metric(state.best)}" + (f" ({g})" if (g := gain(state)) else ""), "$keep"))
    crashed = f" · {plural(state.crashed, 'crash').replace('crashs', 'crashes')}" if state.crashed else ""
    found.append((2, f"{state.rows} exp · {state.kept} kept{crashed}", ""))
    rate = state.per_hour(now)
    if rate is not None:
        found.append((4, f"{rate:.1f}/h", "$measure"))
    if state.usage.dollars is not None:
        found.append((3, f"${state.usage.dollars:.2f}", "$measure"))
    tokens = state.usage.input_tokens + state.usage.output_tokens
    if tokens:
        found.append((6, f"{short(tokens)} tok", "$neutral"))
    if state.live.telemetry:
        found.append((5, machine(state.live.telemetry), "$neutral"))
    if state.engine:
        found.append((7, f"{state.engine.agent} {state.engine.model}".strip(), "$agent"))
        found.append((8, f"sandbox {state.engine.sandbox}", "$neutral"))
    return [(rank, safe(text), style) for rank, text, style in found if text]


def machine(t: Telemetry) -> str:
    """Load of the GPU where there is one, else of the CPU and the memory."""
    if t.gpu_name is None:
        return f"CPU {t.cpu_percent:.0f}% {t.memory_gb:.1f}/{t.memory_total_gb:.0f} GB"
    text = f"GPU {t.gpu_percent or 0:.0f}% {t.gpu_memory_gb or 0:.0f} GB"
    if t.gpu_temperature_c is not None:
        text += f" {t.gpu_temperature_c:.0f}°C"
    if t.gpu_power_w is not None:
        text += f" {t.gpu_power_w:.0f} W"
    return text


def fit(pieces: list[Part], width: int) -> Content:
    """The pieces in their order, without those that do not fit into `width` columns."""

    def line(chosen: list[Part]) -> Content:
        return Content("   ").join(Content.styled(text, style) for _, text, style in chosen)

    chosen = list(pieces)
    while len(chosen) > 1 and line(chosen).cell_length > width - 2:
        chosen.remove(max(chosen, key=lambda piece: piece[0]))
    return line(chosen)

"""The status line: where the run stands, in one row. What needs attention is left out last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from textual.content import Content

from loop.events import Gpu, Telemetry
from loop.state import RunState
from tui.narrow import leave_out
from tui.panels.training import Line
from tui.text import SYMBOLS, gain, metric, plural, safe, short

FENCE = 1
ALERT = 2
"""Ranks of the parts that stay longest: how the trainings are fenced in, and what needs attention now."""


class Part(NamedTuple):
    """A piece of the line. An empty text is not shown."""

    text: str
    style: str = ""
    rank: int = 0
    """Where the line is too narrow, the parts with the lowest rank are left out first."""
    brief: str = ""
    """What stands in its place there, if anything shorter does."""


class Status(Line):
    """One row about the whole run, with these fields of `FIELDS`."""

    def __init__(self, fields: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._fields = fields

    def show_state(self, state: RunState, link: str, now: float) -> None:
        """`link` says what is wrong with the connection, empty when nothing is."""
        self.show(fit(parts(state, link, now, self._fields), self.size.width or 120))


def run(state: RunState, now: float) -> Part:
    """The run's tag."""
    return Part(f"autoresearch/{safe(state.tag)}" if state.tag else "autoresearch", "bold")


def phase(state: RunState, now: float) -> Part:
    """What the run does, and with which experiment."""
    word = "connecting" if not state.tag else state.phase
    symbol, style = SYMBOLS[word]
    number = {"training": state.training, "proposing": state.proposing, "waiting": state.waiting}.get(word)
    text = word + (f" {number.n}" if number else "")
    if word == "training" and state.engine and state.engine.seats > 1:
        text = f"training on {len(state.under_way)} of {state.engine.seats} seats"
    return Part(f"{symbol} {text}", f"bold {style}")


def approval(state: RunState, now: float) -> Part:
    """That every candidate waits for you."""
    return Part("approval on" if state.approval else "", "$measure")


def best(state: RunState, now: float) -> Part:
    """The incumbent's metric, and how far it is from the baseline."""
    if state.best is None:
        return Part("")
    return Part(f"best {metric(state.best)}" + (f" ({g})" if (g := gain(state)) else ""), "$keep")


def experiments(state: RunState, now: float) -> Part:
    """How many experiments were judged, kept, and crashed."""
    crashed = f" · {plural(state.crashed, 'crash').replace('crashs', 'crashes')}" if state.crashed else ""
    return Part(f"{state.rows} exp · {state.kept} kept{crashed}")


def cost(state: RunState, now: float) -> Part:
    """What the agents have cost."""
    dollars = state.usage.dollars
    return Part("" if dollars is None else f"${dollars:.2f}", "$measure")


def rate(state: RunState, now: float) -> Part:
    """Experiments an hour, lately."""
    found = state.per_hour(now)
    return Part("" if found is None else f"{found:.1f}/h", "$measure")


def machine(state: RunState, now: float) -> Part:
    """Load of the GPUs of the engine's machine, or of its processor and memory where it has none."""
    return Part(load(state.live.telemetry) if state.live.telemetry else "", "$neutral")


def tokens(state: RunState, now: float) -> Part:
    """What the agents have read and written."""
    count = state.usage.input_tokens + state.usage.output_tokens
    return Part(f"{short(count)} tok" if count else "", "$neutral")


def agent(state: RunState, now: float) -> Part:
    """The agent and its model."""
    return Part(f"{state.engine.agent} {state.engine.model}".strip() if state.engine else "", "$agent")


def sandbox(state: RunState, now: float) -> Part:
    """Behind what kind of fence the trainings run."""
    if state.engine is None:
        return Part("")
    kind = state.engine.sandbox.partition(":")[0]
    style = {"full": "$neutral", "partial": "$measure"}.get(kind, "bold $discard")
    return Part(f"sandbox {state.engine.sandbox}", style, rank=FENCE, brief=f"sandbox {kind}")


FIELDS: dict[str, Callable[[RunState, float], Part]] = {
    "run": run,
    "phase": phase,
    "best": best,
    "experiments": experiments,
    "approval": approval,
    "cost": cost,
    "rate": rate,
    "machine": machine,
    "tokens": tokens,
    "agent": agent,
    "sandbox": sandbox,
}
"""All fields by name, in the usual order; each is made of the state and the time."""


def choose(wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """The fields to show, and a line about each name that is not one; all if none is left."""
    problems = []
    for name in wanted:
        if name not in FIELDS:
            near = get_close_matches(name, FIELDS, 1)
            problems.append(
                f'status_line: there is no field "{name}"' + (f', perhaps "{near[0]}"' if near else "")
            )
    found = list(dict.fromkeys(name for name in wanted if name in FIELDS))
    return found or list(FIELDS), problems


def parts(state: RunState, link: str, now: float, fields: Sequence[str] = tuple(FIELDS)) -> list[Part]:
    """The pieces of the line, left to right. What needs attention stands in front, whatever the fields."""
    made = [FIELDS[name](state, now) for name in fields]
    at = fields.index("phase") + 1 if "phase" in fields else 0
    fence = [sandbox(state, now)] if "sandbox" not in fields and is_open(state) else []
    found = [*made[:at], *alerts(state, link), *fence, *made[at:]]
    return [part._replace(text=safe(part.text), brief=safe(part.brief)) for part in found if part.text]


def is_open(state: RunState) -> bool:
    """Whether trainings run behind no fence at all."""
    return state.engine is not None and state.engine.sandbox in ("off", "none")


def alerts(state: RunState, link: str) -> list[Part]:
    """What is wrong with the connection, what an agent waits for, and what the run does next as a whole."""
    pausing = state.paused is not None and state.phase not in ("paused", "stopped")
    stopping = state.stopping is not None and state.phase != "stopped"
    return [
        Part(link, "bold $measure", ALERT),
        Part("? the agent asks" if state.live.asked else "", "$measure", ALERT),
        Part("‖ pausing" if pausing else "", "$measure", ALERT),
        Part("■ stopping" if stopping else "", "$measure", ALERT),
    ]


def load(t: Telemetry) -> str:
    """Load of the GPU; of several the mean, with the memory in all and the hottest; else of the CPU."""
    if not t.gpus:
        return f"CPU {t.cpu_percent:.0f}% {t.memory_gb:.1f}/{t.memory_total_gb:.0f} GB"
    count = len(t.gpus)

    def known(figure: Callable[[Gpu], float | None]) -> list[float]:
        return [value for gpu in t.gpus if (value := figure(gpu)) is not None]

    percent, memory = known(lambda g: g.percent), known(lambda g: g.memory_gb)
    heat, power = known(lambda g: g.temperature_c), known(lambda g: g.power_w)
    pieces = [
        "GPU" if count == 1 else f"{count} GPUs",
        f"{sum(percent) / len(percent):.0f}%" if percent else "",
        f"{sum(memory):.0f} GB" if memory else "",
        f"{'max ' if count > 1 else ''}{max(heat):.0f}°C" if heat else "",
        f"{sum(power):.0f} W" if power else "",
    ]
    return " ".join(filter(None, pieces))


def fit(pieces: list[Part], width: int) -> Content:
    """The pieces in their order. Where they do not fit into `width` columns, those of the lowest rank are
    left out first, and of one rank the last ones; one piece always stays.
    """

    def line(chosen: list[Part]) -> Content:
        return Content("   ").join(Content.styled(part.text, part.style) for part in chosen)

    def fits(chosen: list[Part]) -> bool:
        return line(chosen).cell_length <= width - 2

    chosen = list(pieces)
    if not fits(chosen):
        chosen = [part._replace(text=part.brief or part.text) for part in chosen]
    return line(leave_out(chosen, fits, lambda part: -part.rank))

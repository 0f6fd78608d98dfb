"""Agent `search`: hyperparameters by Bayesian optimisation. No key, no network; also the baseline an LLM must
beat.

It keeps nothing between proposals: each one is worked out anew from the run's history, seeded by the run's
tag and the experiment's number. A model of what each hyperparameter does (surrogate.py) is fitted to all
experiments, whoever proposed them; then the change of one to three hyperparameters that promises most is
proposed. What crashed is not gone beyond.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from loop.agents import hyperparameters, program
from loop.agents.base import AgentFailed, AgentStopped, Emit, Proposal, ResearchContext
from loop.agents.hyperparameters import Knob, Value
from loop.events import AgentDelta, CandidateEdited

if TYPE_CHECKING:
    from loop.agents.search.surrogate import Gain

SINGLES = 24
"""Best changes of one hyperparameter that are also tried in pairs; half of them in threes."""
FIRST = 4
"""Finished experiments before several hyperparameters are changed at once."""
STEP = 0.25
"""The nearest step of a hyperparameter counts as no wider than this share of its range."""
TRIES = 60
"""Random wider moves tried before giving up on finding something new."""

Setting = dict[str, Value]


class Tried(Struct, frozen=True):
    """A past experiment as this agent sees it: `value` None for a crash or no verdict yet."""

    n: int
    setting: Setting
    value: float | None
    mark: str = ""
    """Which program it was."""
    code: str = ""
    """Which version of the code it set."""
    pending: bool = False
    changed: tuple[str, ...] = ()
    """What it changed, where it changed nothing but hyperparameters."""
    crashed: str = ""
    """Why it crashed."""


class Idea(Struct, frozen=True):
    """What to change, and why in words."""

    changes: Setting
    why: str


class SearchAgent:
    """Proposes changes to the literal hyperparameters of the editable file."""

    name = "search"
    model = ""
    secrets: tuple[str, ...] = ()

    def __init__(self, device: str = "cpu", hello: str = "") -> None:
        """`hello` is said once, with the first proposal."""
        self.device, self._hello = device, hello

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        if context.failure is not None:
            raise AgentFailed("search does not repair code: it goes on with another idea")
        started = time.time()
        if self._hello:
            emit(AgentDelta(context.n, "note", self._hello, id=f"hello-{context.n}", t=started))
            self._hello = ""
        idea, source = await asyncio.to_thread(find_idea, context, self.device)
        before = {knob.name: knob.value for knob in hyperparameters.find(context.source, self.device)}
        description = ", ".join(
            f"{name} {hyperparameters.show(before[name])} -> {hyperparameters.show(value)}"
            for name, value in idea.changes.items()
        )
        emit(AgentDelta(context.n, "text", idea.why, id=f"search-{context.n}", t=started))
        emit(AgentDelta(context.n, "tool", description, id=f"edit-{context.n}", tool="set", t=time.time()))
        emit(CandidateEdited(context.n, context.path, context.source, source))
        return Proposal(description, source, idea.why)

    async def close(self) -> None:
        pass


def find_idea(context: ResearchContext, device: str) -> tuple[Idea, str]:
    """The next idea and the file it makes; pure but for reading the archive."""
    found = hyperparameters.find(context.source, device)
    if not found:
        raise AgentStopped(
            f"{context.path} has no UPPER_CASE number to vary: name one, or choose another --agent"
        )
    tried = history(context, found, device)
    seen = {t.mark for t in tried} | {program.fingerprint(context.source)}
    generator = random.Random(f"{context.tag}/{context.n}")
    for idea in ideas(context, found, tried, hyperparameters.code(context.source, device), generator):
        source = hyperparameters.change(context.source, idea.changes, found)
        if program.fingerprint(source) not in seen:
            return idea, source
    raise AgentFailed("every change within the ranges of the hyperparameters has been tried")


def history(context: ResearchContext, found: tuple[Knob, ...], device: str) -> list[Tried]:
    """Past experiments, oldest first. A hyperparameter that one did not have yet counts as it is now."""
    now = {knob.name: knob.value for knob in found}
    commits: dict[str, Tried] = {}
    for e in context.experiments:
        if e.n == context.n or not e.commit:
            continue
        source = context.archive.source(e.n)
        setting = now | {k.name: k.value for k in hyperparameters.find(source, device) if k.name in now}
        code, parent = hyperparameters.code(source, device), commits.get(e.parent)
        same = parent is not None and parent.code == code
        changed = tuple(k for k in now if parent and same and setting[k] != parent.setting[k])
        commits[e.commit] = Tried(
            e.n, setting, e.value if e.judged else None, program.fingerprint(source), code,
            not e.judged and e.phase != "rejected", changed,
            (e.reason or "no reason known") if e.phase == "crash" else "",
        )  # fmt: skip
    return list(commits.values())


def ideas(
    context: ResearchContext, found: tuple[Knob, ...], tried: list[Tried], code: str, generator: random.Random
) -> Iterator[Idea]:
    """Ideas, the most promising first; some may have been tried."""
    view = _View(found, tried)
    yield from _by_model(context, found, tried, code, generator, view)
    for _ in range(TRIES):
        chosen = generator.sample(found, min(len(found), 2))
        changes = {k.name: v for k in chosen if (v := k.at(generator.random())) != k.value}
        if changes and view.sound(changes):
            yield Idea(changes, f"The nearby steps have been tried: a wider move of {' and '.join(changes)}.")


class _View:
    """The space as seen from the incumbent: places, and what lies beyond a crash."""

    def __init__(self, found: tuple[Knob, ...], tried: list[Tried]) -> None:
        self._knobs, self._found = {knob.name: knob for knob in found}, found
        self._now: Setting = {knob.name: knob.value for knob in found}
        self._widths = {knob.name: _width(knob) for knob in found}
        self.crashes = [(t, self._moves(t)) for t in tried if t.crashed and t.changed]

    def place(self, setting: Setting) -> tuple[float, ...]:
        return tuple(k.place(setting[k.name]) * self._widths[k.name] for k in self._found)

    def with_changes(self, changes: Setting) -> tuple[float, ...]:
        return self.place(self._now | changes)

    def sound(self, changes: Setting) -> bool:
        """It keeps to what the comments demand, and goes nowhere beyond what crashed."""
        if not hyperparameters.fits(self._now | changes, self._found):
            return False
        return not any(moves and self._beyond(changes, moves) for _, moves in self.crashes)

    def _moves(self, t: Tried) -> Setting:
        """What a crash changed and the incumbent has not taken over since."""
        return {name: t.setting[name] for name in t.changed if t.setting[name] != self._now[name]}

    def _beyond(self, changes: Setting, crash: Setting) -> bool:
        """All that crashed is changed here too, at least as far."""
        for name, value in crash.items():
            here, there, now = float(changes.get(name, self._now[name])), float(value), float(self._now[name])
            if (here < there) if there > now else (here > there):
                return False
        return True


def _width(knob: Knob) -> float:
    """How much of the model's space a range takes up: a knob of few values has short steps there too."""
    here = knob.place(knob.value)
    nearest = min((abs(knob.place(value) - here) for value in knob.steps()), default=1.0)
    return min(1.0, STEP / nearest) if nearest else 1.0


def _by_model(
    context: ResearchContext,
    found: tuple[Knob, ...],
    tried: list[Tried],
    code: str,
    generator: random.Random,
    view: _View,
) -> Iterator[Idea]:
    """Changes of one to three knobs, by expected improvement; equal ones in random order."""
    from loop.agents.search.surrogate import Point, Surrogate

    sign = 1.0 if context.direction == "min" else -1.0
    points = [
        Point(view.place(t.setting), t.code, None if t.value is None else sign * t.value, t.pending)
        for t in tried
        if t.pending or t.crashed or t.value is not None
    ]
    best = next((e.value for e in context.experiments if e.n == context.incumbent), None) or 0.0
    model = Surrogate(points, view.with_changes({}), code, sign * best)
    singles: list[Setting] = [{k.name: v} for k in found for v in k.steps() if view.sound({k.name: v})]
    if not singles:
        return
    generator.shuffle(singles)
    ranked = _ranked(model.gains([view.with_changes(c) for c in singles]), singles)
    if sum(p.value is not None for p in points) >= FIRST:
        heads = [c for _, c in ranked[:SINGLES]]
        several = [a | b for a, b in itertools.combinations(heads, 2) if a.keys() != b.keys()]
        threes = itertools.combinations(heads[: SINGLES // 2], 3)
        several += [a | b | c for a, b, c in threes if len({*a, *b, *c}) == 3]
        several = [c for c in several if view.sound(c)]
        if several:
            ranked += _ranked(model.gains([view.with_changes(c) for c in several]), several)
    for gain, changes in sorted(ranked, key=lambda entry: -entry[0].worth):
        yield Idea(changes, _why(context, found, tried, changes, gain))


def _ranked(gains: list[Gain], changes: list[Setting]) -> list[tuple[Gain, Setting]]:
    return sorted(zip(gains, changes, strict=True), key=lambda entry: -entry[0].worth)


# --- in words ---


def _why(
    context: ResearchContext, found: tuple[Knob, ...], tried: list[Tried], changes: Setting, gain: Gain
) -> str:
    """What is tried, what history says about it, and what is expected."""
    moves, told = [], []
    for knob in found:
        if knob.name in changes:
            value = changes[knob.name]
            verb = "raise" if float(value) > float(knob.value) else "lower"
            moves.append(
                f"{verb} {knob.name} from {hyperparameters.show(knob.value)} to {hyperparameters.show(value)}"
            )
            told.append(_told(knob, tried, context.metric))
    known = sum(t.value is not None for t in tried)
    if known < FIRST:
        expected = "Little is known yet: a moderate step, to see what it does."
    else:
        better = gain.mean if context.direction == "min" else -gain.mean
        expected = (
            f"From {known} results I expect {context.metric} {-better:+.4f}, give or take {gain.spread:.4f}."
        )
    return f"I {' and '.join(moves)}, and nothing else. {' '.join(told)} {expected}"


def _told(knob: Knob, tried: list[Tried], metric: str) -> str:
    """What became of earlier values of a knob."""
    results: dict[str, float] = {}
    crashed: dict[str, str] = {}
    for t in tried:
        if knob.name in t.changed:
            shown = hyperparameters.show(t.setting[knob.name])
            if t.value is not None:
                results[shown] = t.value
            elif t.crashed:
                crashed[shown] = t.crashed
    if not results and not crashed:
        return f"{knob.name} has not been varied yet in this run."
    said = [f"{shown} gave {metric} {result:.4f}" for shown, result in list(results.items())[-3:]]
    said += [f"{shown} crashed ({why[:80]})" for shown, why in list(crashed.items())[-2:]]
    return f"{knob.name} so far: {', '.join(said)}."

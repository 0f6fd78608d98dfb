"""Agent `search`: varies hyperparameters by Bayesian optimisation, without a key and without a network. An
LLM has to do better than this agent.

It keeps nothing between two proposals. Each proposal follows from the history of the run, and its random
numbers from the run's tag and the experiment's number. A surrogate model (surrogate.py) is fitted to all past
experiments, whoever proposed them. Then the change of one to three hyperparameters is proposed from which the
model expects most. Changes that go as far as one that crashed are left out.
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
from loop.agents.hyperparameters import Hyperparameter, Value, show
from loop.events import AgentDelta, CandidateEdited

if TYPE_CHECKING:
    from loop.agents.search.surrogate import Gain

SINGLES = 24
"""This many of the best changes of one hyperparameter are combined in pairs, half as many in threes."""
FIRST = 4
"""Results that a run must have before several hyperparameters are changed at once."""
STEP = 0.25
"""Largest distance between the present value and its nearest step, in the surrogate model's space."""
TRIES = 60
"""How many random wider moves are tried before the agent gives up finding something new."""

Setting = dict[str, Value]
"""Values of hyperparameters by their names."""


class Tried(Struct, frozen=True):
    """A past experiment as this agent sees it."""

    n: int
    setting: Setting
    value: float | None
    """Its metric; None for a crash, or when there is no verdict yet."""
    fingerprint: str = ""
    """Fingerprint of its program."""
    code: str = ""
    """Fingerprint of its program without the values of the hyperparameters: the version of the code."""
    pending: bool = False
    """Whether it waits for its verdict."""
    changed: tuple[str, ...] = ()
    """Names of the hyperparameters that it changed; empty when it changed other code as well."""
    crashed: str = ""
    """Why it crashed; empty when it did not."""


class Idea(Struct, frozen=True):
    """What to change, and why in words."""

    changes: Setting
    why: str


class SearchAgent:
    """Proposes changes to the hyperparameters of the editable file."""

    name = "search"
    model = ""
    secrets: tuple[str, ...] = ()

    def __init__(self, device: str = "cpu", hello: str = "") -> None:
        """`device`: whose block of hyperparameters counts. `hello` is said once, with the first proposal."""
        self.device, self._hello = device, hello

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        if context.failure is not None:
            raise AgentFailed("search does not repair code: it goes on with another idea")
        started = time.time()
        if self._hello:
            emit(AgentDelta(context.n, "note", self._hello, id=f"hello-{context.n}", t=started))
            self._hello = ""
        idea, source = await asyncio.to_thread(find_idea, context, self.device)
        found = await asyncio.to_thread(hyperparameters.find, context.source, self.device)
        before = {h.name: h.value for h in found}
        description = ", ".join(
            f"{name} {show(before[name])} -> {show(value)}" for name, value in idea.changes.items()
        )
        emit(AgentDelta(context.n, "text", idea.why, id=f"search-{context.n}", t=started))
        emit(AgentDelta(context.n, "tool", description, id=f"edit-{context.n}", tool="set", t=time.time()))
        emit(CandidateEdited(context.n, context.path, context.source, source))
        return Proposal(description, source, idea.why)

    async def close(self) -> None:
        """Does nothing: this agent has no connections."""


def find_idea(context: ResearchContext, device: str) -> tuple[Idea, str]:
    """The next idea, and the source that it makes. It reads past sources from the archive; otherwise it is
    pure.

    Raises `AgentStopped` when there is nothing to vary, `AgentFailed` when everything has been tried.
    """
    found = hyperparameters.find(context.source, device)
    if not found:
        raise AgentStopped(
            f"{context.path} has no UPPER_CASE number to vary: name one, or choose another --agent"
        )
    tried = history(context, found, device)
    seen = {t.fingerprint for t in tried} | {program.fingerprint(context.source)}
    generator = random.Random(f"{context.tag}/{context.n}")
    for idea in ideas(context, found, tried, hyperparameters.code(context.source, device), generator):
        source = hyperparameters.change(context.source, idea.changes, found)
        if program.fingerprint(source) not in seen:
            return idea, source
    raise AgentFailed("every change within the ranges of the hyperparameters has been tried")


def history(context: ResearchContext, found: tuple[Hyperparameter, ...], device: str) -> list[Tried]:
    """Past experiments, oldest first. A hyperparameter that an experiment did not have counts as having
    had its present value."""
    now: Setting = {h.name: h.value for h in found}
    commits: dict[str, Tried] = {}
    for e in context.experiments:
        if e.n == context.n or not e.commit:
            continue
        source = context.archive.source(e.n)
        setting = now | {h.name: h.value for h in hyperparameters.find(source, device) if h.name in now}
        code, parent = hyperparameters.code(source, device), commits.get(e.parent)
        same = parent is not None and parent.code == code
        changed = tuple(name for name in now if parent and same and setting[name] != parent.setting[name])
        commits[e.commit] = Tried(
            e.n, setting, e.value if e.judged else None, program.fingerprint(source), code,
            not e.judged and e.phase != "rejected", changed,
            (e.reason or "no reason known") if e.phase == "crash" else "",
        )  # fmt: skip
    return list(commits.values())


def ideas(
    context: ResearchContext,
    found: tuple[Hyperparameter, ...],
    tried: list[Tried],
    code: str,
    generator: random.Random,
) -> Iterator[Idea]:
    """Ideas, the most promising first. Some of them may have been tried."""
    space = _Space(found, tried)
    yield from _by_surrogate(context, space, code, generator)
    for _ in range(TRIES):
        chosen = generator.sample(found, min(len(found), 2))
        changes = {h.name: value for h in chosen if (value := h.at(generator.random())) != h.value}
        if changes and space.allows(changes):
            yield Idea(changes, f"The nearby steps have been tried: a wider move of {' and '.join(changes)}.")


class _Space:
    """The space of all settings around the incumbent: where a setting lies in it, and which are allowed."""

    def __init__(self, found: tuple[Hyperparameter, ...], tried: list[Tried]) -> None:
        self.found, self.tried = found, tried
        self._now: Setting = {h.name: h.value for h in found}
        self._widths = {h.name: _width(h) for h in found}
        self._crashes = [self._still_different(t) for t in tried if t.crashed and t.changed]

    def place(self, setting: Setting) -> tuple[float, ...]:
        """Coordinates of a setting, one for each hyperparameter."""
        return tuple(h.place(setting[h.name]) * self._widths[h.name] for h in self.found)

    def place_with(self, changes: Setting) -> tuple[float, ...]:
        """Coordinates of the incumbent's setting with some changes."""
        return self.place(self._now | changes)

    def allows(self, changes: Setting) -> bool:
        """Whether these changes keep to the multiples that comments demand and go less far than any crash."""
        if not hyperparameters.fits(self._now | changes, self.found):
            return False
        return not any(crash and self._as_far_as(changes, crash) for crash in self._crashes)

    def _still_different(self, t: Tried) -> Setting:
        """What a crashed experiment changed, without the values that the incumbent has meanwhile."""
        return {name: t.setting[name] for name in t.changed if t.setting[name] != self._now[name]}

    def _as_far_as(self, changes: Setting, crash: Setting) -> bool:
        """Whether `changes` move all that `crash` moved, in the same direction and at least as far."""
        for name, value in crash.items():
            here, there, now = float(changes.get(name, self._now[name])), float(value), float(self._now[name])
            if (here < there) if there > now else (here > there):
                return False
        return True


def _width(hyperparameter: Hyperparameter) -> float:
    """The width of a hyperparameter's range in the surrogate model's space, at most 1.

    A hyperparameter with few values, such as a truth value, takes large steps in its range. Its range is made
    narrower, so that its nearest step is no longer than `STEP`.
    """
    here = hyperparameter.place(hyperparameter.value)
    nearest = min((abs(hyperparameter.place(value) - here) for value in hyperparameter.steps()), default=1.0)
    return min(1.0, STEP / nearest) if nearest else 1.0


def _by_surrogate(
    context: ResearchContext, space: _Space, code: str, generator: random.Random
) -> Iterator[Idea]:
    """Changes of one to three hyperparameters, those with the highest expected improvement first. Changes
    of which the same is expected come in random order."""
    from loop.agents.search.surrogate import Point, Surrogate

    found, tried = space.found, space.tried
    sign = 1.0 if context.direction == "min" else -1.0
    points = [
        Point(space.place(t.setting), t.code, None if t.value is None else sign * t.value, t.pending)
        for t in tried
        if t.pending or t.crashed or t.value is not None
    ]
    best = next((e.value for e in context.experiments if e.n == context.incumbent), None) or 0.0
    surrogate = Surrogate(points, space.place_with({}), code, sign * best)
    singles: list[Setting] = [
        {h.name: value} for h in found for value in h.steps() if space.allows({h.name: value})
    ]
    if not singles:
        return
    generator.shuffle(singles)
    ranked = _ranked(surrogate.gains([space.place_with(c) for c in singles]), singles)
    if sum(p.value is not None for p in points) >= FIRST:
        best_singles = [changes for _, changes in ranked[:SINGLES]]
        several = [a | b for a, b in itertools.combinations(best_singles, 2) if a.keys() != b.keys()]
        threes = itertools.combinations(best_singles[: SINGLES // 2], 3)
        several += [a | b | c for a, b, c in threes if len({*a, *b, *c}) == 3]
        several = [changes for changes in several if space.allows(changes)]
        if several:
            ranked += _ranked(surrogate.gains([space.place_with(c) for c in several]), several)
    for gain, changes in sorted(ranked, key=lambda entry: -entry[0].improvement):
        yield Idea(changes, _why(context, space, changes, gain))


def _ranked(gains: list[Gain], changes: list[Setting]) -> list[tuple[Gain, Setting]]:
    """Changes with what they are expected to gain, the best first."""
    return sorted(zip(gains, changes, strict=True), key=lambda entry: -entry[0].improvement)


def _why(context: ResearchContext, space: _Space, changes: Setting, gain: Gain) -> str:
    """What is tried, what came of it before, and what is expected, as sentences."""
    moves, past = [], []
    for h in space.found:
        if h.name in changes:
            value = changes[h.name]
            verb = "raise" if float(value) > float(h.value) else "lower"
            moves.append(f"{verb} {h.name} from {show(h.value)} to {show(value)}")
            past.append(_past_values(h.name, space.tried, context.metric))
    known = sum(t.value is not None for t in space.tried)
    if known < FIRST:
        expected = "Little is known yet: a moderate step, to see what it does."
    else:
        better = gain.mean if context.direction == "min" else -gain.mean
        expected = (
            f"From {known} results I expect {context.metric} {-better:+.4f}, give or take {gain.spread:.4f}."
        )
    return f"I {' and '.join(moves)}, and nothing else. {' '.join(past)} {expected}"


def _past_values(name: str, tried: list[Tried], metric: str) -> str:
    """What came of earlier values of a hyperparameter: the latest three results and two crashes."""
    results: dict[str, float] = {}
    crashed: dict[str, str] = {}
    for t in tried:
        if name in t.changed:
            shown = show(t.setting[name])
            if t.value is not None:
                results[shown] = t.value
            elif t.crashed:
                crashed[shown] = t.crashed
    if not results and not crashed:
        return f"{name} has not been varied yet in this run."
    said = [f"{shown} gave {metric} {result:.4f}" for shown, result in list(results.items())[-3:]]
    said += [f"{shown} crashed ({why[:80]})" for shown, why in list(crashed.items())[-2:]]
    return f"{name} so far: {', '.join(said)}."

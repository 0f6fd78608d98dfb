"""What the results of a run say of its hyperparameters: past experiments as points of a space, and the
surrogate model that is fitted to them.

Agent `search` proposes by it; agents with a model ask it (expected.py). It reads past sources from the
archive; otherwise it is pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from loop.agents import hyperparameters, program
from loop.agents.base import ResearchContext
from loop.agents.hyperparameters import Hyperparameter, Value

if TYPE_CHECKING:
    from loop.agents.surrogate import Surrogate

FIRST = 4
"""Results that a run must have before anything is said of what to expect."""
STEP = 0.25
"""Largest distance between the present value and its nearest step, in the surrogate model's space."""

Setting = dict[str, Value]
"""Values of hyperparameters by their names."""


class Tried(Struct, frozen=True):
    """A past experiment as a point of the space."""

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


def history(context: ResearchContext, found: tuple[Hyperparameter, ...], most: int = 0) -> list[Tried]:
    """Past experiments, oldest first; only the newest `most` if that is not 0.

    A hyperparameter that an experiment did not have counts as having had its present value."""
    now: Setting = {h.name: h.value for h in found}
    commits: dict[str, Tried] = {}
    device = context.device
    for e in context.experiments[-most:]:
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


class Space:
    """The space of all settings around the incumbent: where a setting lies in it, and which are allowed."""

    def __init__(self, found: tuple[Hyperparameter, ...], tried: list[Tried]) -> None:
        self.found, self.tried = found, tried
        self._now: Setting = {h.name: h.value for h in found}
        self._by_name = {h.name: h for h in found}
        self._widths = {h.name: _width(h) for h in found}
        self._crashes = [self._still_different(t) for t in tried if t.crashed and t.changed]

    def place(self, setting: Setting) -> tuple[float, ...]:
        """Coordinates of a setting, one for each hyperparameter."""
        return tuple(h.place(setting[h.name]) * self._widths[h.name] for h in self.found)

    def place_with(self, changes: Setting) -> tuple[float, ...]:
        """Coordinates of the incumbent's setting with some changes."""
        return self.place(self._now | changes)

    def allows(self, changes: Setting) -> bool:
        """Whether these changes keep to the multiples that comments demand, all do something, and go less far
        than any crash."""
        setting = self._now | changes
        if not hyperparameters.fits(setting, self.found):
            return False
        if not all(self._does_something(name, setting) for name in changes):
            return False
        return not any(crash and self._as_far_as(changes, crash) for crash in self._crashes)

    def _does_something(self, name: str, setting: Setting) -> bool:
        """Whether the hyperparameter that this one needs, if any, is above the lowest value of its range."""
        other = self._by_name.get(self._by_name[name].needs)
        return other is None or float(setting[other.name]) > other.low

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


def fitted(context: ResearchContext, space: Space, code: str) -> Surrogate:
    """The surrogate model of all past experiments. `code` is the incumbent's version of the code.

    It counts values so that lower is better.
    """
    from loop.agents.surrogate import Point, Surrogate

    sign = 1.0 if context.direction == "min" else -1.0
    points = [
        Point(space.place(t.setting), t.code, None if t.value is None else sign * t.value, t.pending)
        for t in space.tried
        if t.pending or t.crashed or t.value is not None
    ]
    best = next((e.value for e in context.experiments if e.n == context.incumbent), None) or 0.0
    return Surrogate(points, space.place_with({}), code, sign * best)

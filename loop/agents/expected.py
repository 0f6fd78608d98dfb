"""What the surrogate model of agent `search` expects of changes to hyperparameters, in words for any agent.

A model has ideas, and the surrogate model has a memory for figures: each sees what the other does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from loop.agents import hyperparameters, space
from loop.agents.base import ResearchContext
from loop.agents.hyperparameters import Hyperparameter, Value, show
from loop.agents.quote import size

if TYPE_CHECKING:  # numpy is imported when the surrogate model is first asked
    from loop.agents.surrogate import Gain, Surrogate

NEWEST = 100
"""It learns from so many of the newest experiments."""

CLEARLY = 2.0
"""A change is clearly worse when it is expected to be worse by this many times what that may be wrong by."""
ENOUGH = 8
"""Results that a run must have before a submission is doubted."""


class Unknown(Exception):
    """The surrogate model cannot be asked this. The message is one sentence for a model."""


class Expected:
    """What the results of a run let one expect. It fits the surrogate model when it is first asked.

    Threads may use it. It reads past sources from the archive.
    """

    def __init__(self, context: ResearchContext) -> None:
        self._context = context

    @cached_property
    def found(self) -> tuple[Hyperparameter, ...]:
        """The incumbent's hyperparameters."""
        return hyperparameters.find(self._context.source, self._context.device)

    @cached_property
    def _space(self) -> space.Space:
        return space.Space(self.found, space.history(self._context, self.found, NEWEST))

    @cached_property
    def _surrogate(self) -> Surrogate:
        code = hyperparameters.code(self._context.source, self._context.device)
        return space.fitted(self._context, self._space, code)

    @cached_property
    def results(self) -> int:
        """How many results it knows."""
        return sum(t.value is not None for t in self._space.tried) if self.found else 0

    @property
    def ready(self) -> bool:
        """Whether there are enough results to expect anything."""
        return self.results >= space.FIRST

    def predict(self, changes: Mapping[str, object]) -> str:
        """What is expected of these values, in a sentence. Raises `Unknown`."""
        values = self._checked(changes)
        gain = self._gain(values)
        varied = ", ".join(f"{name} varied in {self._varied(name)}" for name in values)
        return f"{self._figure(gain)}, from {self.results} results ({varied})."

    def importance(self) -> str:
        """How much each hyperparameter has moved the metric so far, in lines; the largest first.

        Raises `Unknown`.
        """
        self._ask_only_when_ready()
        effects = dict(zip((h.name for h in self.found), self._surrogate.effects(), strict=True))
        lines = []
        for h in sorted(self.found, key=lambda h: -effects[h.name]):
            if varied := self._varied(h.name):
                step = self._best_step(h)
                best = f"; best next step {step}" if step else ""
                lines.append(
                    f"{h.name} = {show(h.value)} in [{h.low:g}, {h.high:g}]: varied in {varied}, moved "
                    f"{self._context.metric} by {effects[h.name]:.4f}{best}"
                )
        rest = [h.name for h in self.found if not self._varied(h.name)]
        return "\n".join([*lines, *([f"never varied: {', '.join(rest)}"] if rest else [])])

    def table(self, most: int) -> str:
        """`importance` in at most `most` bytes; empty before there are enough results."""
        if not self.ready:
            return ""
        lines = self.importance().splitlines()
        while lines and size("\n".join(lines)) > most:
            lines.pop(-2 if len(lines) > 1 else -1)  # the last line names what was never varied
        return "\n".join(lines)

    def doubt(self, source: str) -> str | None:
        """Why a submission is not worth its training, when it changes nothing but hyperparameters and is
        expected to be clearly worse; else None."""
        if self.results < ENOUGH:
            return None
        values = self.changes_of(source)
        if not values:
            return None
        gain = self._gain(values)
        if gain.mean > -CLEARLY * gain.spread:
            return None
        return (
            f"from {self.results} results the surrogate model expects {self._figure(gain)}: clearly worse. "
            "Change it, or submit it once more if you know why it is wrong."
        )

    def changes_of(self, source: str) -> dict[str, Value]:
        """The hyperparameters that a source sets to other values; empty when it changes other code too."""
        device = self._context.device
        now, then = self.found, hyperparameters.find(source, device)
        if hyperparameters.code(source, device) != hyperparameters.code(self._context.source, device):
            return {}
        before = {h.name: h.value for h in now}
        return {h.name: h.value for h in then if h.name in before and h.value != before[h.name]}

    def _ask_only_when_ready(self) -> None:
        if not self.found:
            raise Unknown(f"{self._context.path} has no hyperparameters: no UPPER_CASE name gets a number")
        if not self.ready:
            raise Unknown(f"there are {self.results} results and it takes {space.FIRST} to expect anything")

    def _checked(self, changes: Mapping[str, object]) -> dict[str, Value]:
        self._ask_only_when_ready()
        known = {h.name: h for h in self.found}
        if wrong := sorted(set(changes) - set(known)):
            raise Unknown(f"there is no {', '.join(wrong[:5])}; there is {', '.join(known)}")
        if not changes:
            raise Unknown("name at least one hyperparameter and its new value")
        values: dict[str, Value] = {}
        for name, value in changes.items():
            if not isinstance(value, int | float):
                raise Unknown(f"{name} is to be a number")
            values[name] = value
        return values

    def _gain(self, values: Mapping[str, Value]) -> Gain:
        return self._surrogate.gains([self._space.place_with(dict(values))])[0]

    def _figure(self, gain: Gain) -> str:
        change = -gain.mean if self._context.direction == "min" else gain.mean
        return f"{self._context.metric} {change:+.4f} against the incumbent, give or take {gain.spread:.4f}"

    def _varied(self, name: str) -> int:
        return sum(name in t.changed for t in self._space.tried if t.value is not None)

    def _best_step(self, h: Hyperparameter) -> str:
        steps = [value for value in h.steps() if self._space.allows({h.name: value})]
        if not steps:
            return ""
        gains = self._surrogate.gains([self._space.place_with({h.name: value}) for value in steps])
        gain, value = max(zip(gains, steps, strict=True), key=lambda pair: pair[0].improvement)
        change = -gain.mean if self._context.direction == "min" else gain.mean
        return f"{show(value)} ({change:+.4f}, give or take {gain.spread:.4f})"

"""Agent `search`: varies hyperparameters by Bayesian optimisation, without a key and without a network. An
LLM has to do better than this agent.

It keeps nothing between two proposals. Each proposal follows from the history of the run, and its random
numbers from the run's tag and the experiment's number. A surrogate model (../space.py,
../surrogate.py) is fitted to all past experiments, whoever proposed them. Then the change of a few
hyperparameters is proposed from which the model expects most. Changes that go as far as one that crashed are
left out.
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
from loop.agents.hyperparameters import Hyperparameter, show
from loop.agents.search import tuning
from loop.agents.space import FIRST, Setting, Space, Tried, fitted, history
from loop.events import AgentDelta, CandidateEdited

if TYPE_CHECKING:
    from loop.agents.surrogate import Gain, Surrogate

SINGLES = 24
"""This many of the best changes of one hyperparameter are combined in pairs, half as many in threes."""
CLIMBS = 3
"""From so many of the best changes the search goes on uphill."""
NEAR = (0.04, 0.08, 0.16)
"""How far the next values lie on this way, as shares of the range."""
WORTH = 1.02
"""The way ends where a step makes the expected improvement larger by no more than this factor."""
RESULTS_OF_EACH = 3
"""On this way it changes at most one hyperparameter for so many results, but up to three in any case: what is
expected of many at once is a guess as long as little is known."""
TRIES = 60
"""How many random wider moves are tried before the agent gives up finding something new."""


Vary = tuple[Hyperparameter, ...]
"""The hyperparameters that may be changed."""
Ranked = tuple["Gain", Setting]
"""Changes, and what they are expected to gain."""


class Idea(Struct, frozen=True):
    """What to change, and why in words."""

    changes: Setting
    why: str


class SearchAgent:
    """Proposes changes to the hyperparameters of the editable file."""

    name = "search"
    model = ""
    secrets: tuple[str, ...] = ()

    def __init__(self, hello: str = "") -> None:
        """`hello` is said once, with the first proposal."""
        self._hello = hello

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        if context.failure is not None:
            raise AgentFailed("search does not repair code: it goes on with another idea")
        started = time.time()
        if self._hello:
            emit(AgentDelta(context.n, "note", self._hello, id=f"hello-{context.n}", t=started))
            self._hello = ""
        idea, source = await asyncio.to_thread(find_idea, context)
        found = await asyncio.to_thread(hyperparameters.find, context.source, context.device)
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


def find_idea(context: ResearchContext) -> tuple[Idea, str]:
    """The next idea, and the source that it makes. It reads past sources from the archive; otherwise it is
    pure.

    Raises `AgentStopped` when there is nothing to vary, `AgentFailed` when everything has been tried.
    """
    found = hyperparameters.find(context.source, context.device)
    if not found:
        raise AgentStopped(
            f"{context.path} has no UPPER_CASE number to vary: name one, or choose another --agent"
        )
    tried = history(context, found)
    seen = {t.fingerprint for t in tried} | {program.fingerprint(context.source)}
    generator = random.Random(f"{context.tag}/{context.n}")
    for idea in ideas(context, found, tried, hyperparameters.code(context.source, context.device), generator):
        source = hyperparameters.change(context.source, idea.changes, found)
        if program.fingerprint(source) not in seen:
            return idea, source
    raise AgentFailed("every change within the ranges of the hyperparameters has been tried")


def ideas(
    context: ResearchContext,
    found: tuple[Hyperparameter, ...],
    tried: list[Tried],
    code: str,
    generator: random.Random,
) -> Iterator[Idea]:
    """Ideas, the most promising first; those that tune a new keep of another agent before all others. Some of
    them may have been tried."""
    space = Space(found, tried)
    if moved := tuple(h for h in found if h.name in tuning.moved(context)):
        yield from _by_surrogate(context, space, moved, code, generator)
    yield from _by_surrogate(context, space, found, code, generator)
    for _ in range(TRIES):
        chosen = generator.sample(found, min(len(found), 2))
        changes = {h.name: value for h in chosen if (value := h.at(generator.random())) != h.value}
        if changes and space.allows(changes):
            yield Idea(changes, f"The nearby steps have been tried: a wider move of {' and '.join(changes)}.")


def _by_surrogate(
    context: ResearchContext, space: Space, vary: Vary, code: str, generator: random.Random
) -> Iterator[Idea]:
    """Changes of hyperparameters, those with the highest expected improvement first: of one, of up to three
    that promise most alone, and what is reached from the best of these. Changes of which the same is expected
    come in random order."""
    surrogate = fitted(context, space, code)
    singles: list[Setting] = [{h.name: value} for h in vary for value in h.steps()]
    generator.shuffle(singles)
    ranked = _ranked(surrogate, space, singles)
    known = sum(t.value is not None for t in space.tried)
    if known >= FIRST:
        best_singles = [changes for _, changes in ranked[:SINGLES]]
        several = [a | b for a, b in itertools.combinations(best_singles, 2) if a.keys() != b.keys()]
        threes = itertools.combinations(best_singles[: SINGLES // 2], 3)
        several += [a | b | c for a, b, c in threes if len({*a, *b, *c}) == 3]
        ranked = _by_improvement([*ranked, *_ranked(surrogate, space, several)])
        most = max(3, known // RESULTS_OF_EACH)
        ranked += [step for start in ranked[:CLIMBS] for step in _climb(surrogate, space, vary, start, most)]
    for gain, changes in _by_improvement(ranked):
        yield Idea(changes, _why(context, space, changes, gain))


def _climb(surrogate: Surrogate, space: Space, vary: Vary, start: Ranked, most: int) -> Iterator[Ranked]:
    """From a change uphill, one hyperparameter at a time, as long as more is expected of it. It changes at
    most so many hyperparameters."""
    best = start
    while True:
        expected, changes = best
        steps = [s for s in _steps(vary, changes) if 0 < len(s) <= most]
        best = max(_ranked(surrogate, space, steps), default=best, key=_improvement)
        if best[0].improvement <= expected.improvement * WORTH:
            return
        yield best


def _steps(vary: Vary, changes: Setting) -> Iterator[Setting]:
    """Changes that differ from these in one hyperparameter: it has a value near by, one of those that are
    worth trying at first, or its present one."""
    for h in vary:
        now = changes.get(h.name, h.value)
        here = h.place(now)
        near = [h.at(here + sign * step) for step in NEAR for sign in (1, -1)]
        for value in dict.fromkeys([h.value, *h.steps(), *near]):
            others = {name: v for name, v in changes.items() if name != h.name}
            if value != now:
                yield others if value == h.value else others | {h.name: value}


def _ranked(surrogate: Surrogate, space: Space, changes: list[Setting]) -> list[Ranked]:
    """Those of the changes that are allowed, with what they are expected to gain; the best first."""
    allowed = [c for c in changes if space.allows(c)]
    gains = surrogate.gains([space.place_with(c) for c in allowed]) if allowed else []
    return _by_improvement(list(zip(gains, allowed, strict=True)))


def _by_improvement(ranked: list[Ranked]) -> list[Ranked]:
    return sorted(ranked, key=_improvement, reverse=True)


def _improvement(ranked: Ranked) -> float:
    return ranked[0].improvement


def _why(context: ResearchContext, space: Space, changes: Setting, gain: Gain) -> str:
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

"""Agent `search`: hyperparameters by Optuna. No key, no network; also the baseline an LLM must beat.

It keeps nothing between proposals: each one is worked out anew from the run's history, seeded by the run's
tag and the experiment's number. First it moves single knobs around the incumbent, the least tried first and
further in a direction that helped; now and then, once there is history enough, it lets Optuna's TPE
sampler choose and takes over the two or three knobs that TPE would move most.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from loop.agents import knobs
from loop.agents.base import AgentFailed, AgentStopped, Emit, Proposal, ResearchContext
from loop.agents.knobs import Knob, Value
from loop.events import AgentDelta, CandidateEdited

if TYPE_CHECKING:
    import optuna

TPE_AFTER = 10
"""Judged experiments before TPE has a say."""
TPE_SHARE = 0.4
"""Share of the proposals that are TPE's from then on."""
TRIES = 40
"""Random wider moves tried before giving up on finding something new."""

Setting = dict[str, Value]


class Tried(Struct, frozen=True):
    """A past experiment as this agent sees it: `value` None for a crash or no verdict yet."""

    n: int
    setting: Setting
    value: float | None
    kept: bool
    pending: bool


class Idea(Struct, frozen=True):
    """What to change, and why in words."""

    changes: Setting
    why: str


class SearchAgent:
    """Proposes changes to the literal hyperparameters of the editable file."""

    name = "search"
    model = ""

    def __init__(self, device: str = "cpu", hello: str = "") -> None:
        """`hello` is said once, with the first proposal."""
        self.device, self._hello = device, hello

    async def propose(self, context: ResearchContext, emit: Emit) -> Proposal:
        if context.failure is not None:
            raise AgentFailed("search does not repair code")
        started = time.time()
        if self._hello:
            emit(AgentDelta(context.n, "note", self._hello, id=f"hello-{context.n}", t=started))
            self._hello = ""
        idea, source = await asyncio.to_thread(find_idea, context, self.device)
        before = {knob.name: knob.value for knob in knobs.find(context.source, self.device)}
        description = ", ".join(
            f"{name} {knobs.show(before[name])} -> {knobs.show(value)}"
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
    found = knobs.find(context.source, device)
    if not found:
        raise AgentStopped(
            f"{context.path} has no UPPER_CASE number to vary: name one, or choose another --agent"
        )
    tried = history(context, found, device)
    seen = {knobs.fingerprint(context.archive.source(t.n)) for t in tried} | {
        knobs.fingerprint(context.source)
    }
    generator = random.Random(f"{context.tag}/{context.n}")
    for idea in ideas(context, found, tried, generator):
        source = knobs.change(context.source, idea.changes, found)
        if knobs.fingerprint(source) not in seen:
            return idea, source
    raise AgentFailed("every change within the ranges of the hyperparameters has been tried")


def history(context: ResearchContext, found: tuple[Knob, ...], device: str) -> list[Tried]:
    """Past experiments that have the same knobs, oldest first."""
    names = {knob.name for knob in found}
    tried = []
    for e in context.experiments:
        if e.n == context.n or not e.commit or e.phase == "rejected":
            continue
        setting = {
            k.name: k.value for k in knobs.find(context.archive.source(e.n), device) if k.name in names
        }
        if len(setting) == len(names):
            tried.append(Tried(e.n, setting, e.value if e.judged else None, e.phase == "keep", not e.judged))
    return tried


def ideas(
    context: ResearchContext, found: tuple[Knob, ...], tried: list[Tried], generator: random.Random
) -> Iterator[Idea]:
    """Ideas, the most promising first; some may have been tried."""
    judged = sum(not t.pending for t in tried)
    if judged >= TPE_AFTER and generator.random() < TPE_SHARE:
        yield from _by_tpe(context, found, tried, generator)
    yield from _by_one_knob(found, tried, generator, context.metric)
    for _ in range(TRIES):
        chosen = generator.sample(found, min(len(found), 2))
        changes = {k.name: v for k in chosen if (v := _anywhere(k, generator)) != k.value}
        if changes:
            yield Idea(changes, f"The nearby steps have been tried: a wider move of {' and '.join(changes)}.")


def _anywhere(knob: Knob, generator: random.Random) -> Value:
    if knob.log:
        return knob.clip(knob.low * (knob.high / knob.low) ** generator.random())
    return knob.clip(generator.uniform(knob.low, knob.high))


# --- one knob at a time ---


def _by_one_knob(
    found: tuple[Knob, ...], tried: list[Tried], generator: random.Random, metric: str
) -> Iterator[Idea]:
    """Single steps: a direction that helped first, then the knobs tried least, in random order."""
    ranked: list[tuple[float, Knob, Value]] = []
    for knob in found:
        past = [t for t in tried if _moved(t, tried, knob)]
        for distance, value in enumerate(knob.neighbours()):
            helped = any(
                t.kept and (t.setting[knob.name] == knob.value) and _onward(t, tried, knob, value)
                for t in past
            )
            ranked.append((len(past) + distance / 2 + generator.random() - (3 if helped else 0), knob, value))
    for _, knob, value in sorted(ranked, key=lambda entry: entry[0]):
        yield Idea({knob.name: value}, _explain(knob, value, tried, metric))


def _before(t: Tried, tried: list[Tried]) -> Setting:
    """The setting an experiment started from: that of the last one kept before it."""
    return next((x.setting for x in reversed(tried) if x.n < t.n and x.kept), t.setting)


def _moved(t: Tried, tried: list[Tried], knob: Knob) -> bool:
    return t.setting[knob.name] != _before(t, tried)[knob.name]


def _onward(t: Tried, tried: list[Tried], knob: Knob, value: Value) -> bool:
    """`value` goes on in the direction in which experiment `t` went."""
    return (float(t.setting[knob.name]) - float(_before(t, tried)[knob.name])) * (
        float(value) - float(knob.value)
    ) > 0


def _explain(knob: Knob, value: Value, tried: list[Tried], metric: str) -> str:
    """What is tried and what history says about this knob, in words."""
    words = "raise" if float(value) > float(knob.value) else "lower"
    intro = f"I {words} {knob.name} from {knobs.show(knob.value)} to {knobs.show(value)}, and nothing else."
    results: dict[str, float] = {}
    for t in tried:
        shown = knobs.show(t.setting[knob.name])
        if t.value is not None and _moved(t, tried, knob):
            results[shown] = min(t.value, results.get(shown, t.value))
    if not results:
        return f"{intro} It has not been varied yet in this run."
    told = ", ".join(f"{shown} gave {metric} {result:.4f}" for shown, result in list(results.items())[-4:])
    return f"{intro} So far {told}."


# --- Optuna ---


def _by_tpe(
    context: ResearchContext, found: tuple[Knob, ...], tried: list[Tried], generator: random.Random
) -> Iterator[Idea]:
    """What Optuna's TPE sampler would set, cut down to the two or three largest moves."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spaces = {knob.name: _distribution(knob) for knob in found}
    sampler = optuna.samplers.TPESampler(
        seed=generator.randrange(2**31), n_startup_trials=TPE_AFTER // 2, constant_liar=True
    )
    study = optuna.create_study(
        direction="minimize" if context.direction == "min" else "maximize", sampler=sampler
    )
    for t in tried:
        if trial := _trial(t, spaces):
            study.add_trial(trial)
    for size in (2, 3, 2):
        suggestion = study.ask(spaces).params
        moves = {k.name: k.clip(float(suggestion[k.name])) for k in found}
        largest = sorted(found, key=lambda k: -abs(_place(k, moves[k.name]) - _place(k, k.value)))[:size]
        changes = {k.name: moves[k.name] for k in largest if moves[k.name] != k.value}
        if changes:
            names = " and ".join(changes)
            yield Idea(changes, f"From {len(tried)} experiments TPE expects the most from moving {names}.")


def _distribution(knob: Knob) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(knob.value, int):
        low, high = round(knob.low), round(knob.high)
        return IntDistribution(low, high, log=knob.log and low > 0)
    return FloatDistribution(knob.low, knob.high, log=knob.log)


def _trial(
    t: Tried, spaces: dict[str, optuna.distributions.BaseDistribution]
) -> optuna.trial.FrozenTrial | None:
    """A past experiment as Optuna wants it; None when a value lies outside today's ranges."""
    from optuna.trial import TrialState, create_trial

    params = {name: int(v) if isinstance(v, bool) else v for name, v in t.setting.items()}
    if not all(spaces[name]._contains(spaces[name].to_internal_repr(v)) for name, v in params.items()):
        return None
    state = (
        TrialState.COMPLETE if t.value is not None else TrialState.RUNNING if t.pending else TrialState.FAIL
    )
    return create_trial(state=state, value=t.value, params=params, distributions=spaces)


def _place(knob: Knob, value: Value) -> float:
    """Where a value lies in the knob's range, 0 to 1."""
    import math

    if knob.high <= knob.low:
        return 0.0
    if knob.log and float(value) > 0:
        return math.log(float(value) / knob.low) / math.log(knob.high / knob.low)
    return (float(value) - knob.low) / (knob.high - knob.low)

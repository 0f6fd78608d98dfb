"""What a human may ask of a running engine, and what it answers."""

from __future__ import annotations

import ast
import asyncio
import time

from loop import events as ev
from loop.client import Refused
from loop.engine import Engine
from loop.judging import goal, limits
from loop.records import other_rows, results
from loop.state import Experiment
from loop.text import without


async def obey(engine: Engine, command: ev.AnyCommand) -> str:
    """Carry out a command; returns a sentence. Raises `Refused` with the reason not to."""
    match command:
        case ev.Pause():
            return _pause(engine)
        case ev.Resume():
            return _resume(engine)
        case ev.Approve() | ev.Reject() | ev.Edit():
            return await _decide(engine, command)
        case ev.Permit(allow=allow, id=id):
            title = engine.permissions.answer(id, allow)
            if title is None:
                raise Refused("no agent asks for permission")
            return f"{'allowed' if allow else 'not allowed'}: {title}"
        case ev.StopTraining():
            return _stop_training(engine, command)
        case ev.StopEngine(now=now):
            engine.stop("stopped by hand", now=now)
            return "stopping now" if now else "stopping after this training"
        case ev.Steer(text=text):
            if not text.strip():
                raise Refused("an empty message")
            text = without(text.strip(), engine.agent.secrets)[:4000]
            if text.endswith("?") and engine.answers:
                engine.store.record(ev.Asked(text))
                return "the agent answers in the transcript"
            engine.store.record(ev.Steered(text))
            return "the agent reads it at its next proposal"
        case ev.SetMode(approval=approval):
            return _set_mode(engine, approval)
        case ev.SetLimits(text=text):
            return _set_limits(engine, text)
        case ev.TakeBack(id=id):
            return _take_back(engine, id)
        case ev.Override():
            return _override(engine, command)
        case ev.RunAgain(n=n):
            return _run_again(engine, n)
        case ev.GetExperiment() | ev.GetOthers():
            raise AssertionError("the server answers questions itself")


async def detail(engine: Engine, n: int) -> ev.ExperimentDetail:
    """Everything kept about experiment `n`. Raises `Refused` when there is none."""
    _experiment(engine, n)
    return await asyncio.to_thread(engine.archive.detail, n)


async def others(engine: Engine) -> list[str]:
    """Rows of results.tsv that are not this run's."""

    def read() -> list[str]:
        return other_rows.rows(results.lines(engine.paths.results), engine.state)

    return await asyncio.to_thread(read)


def _experiment(engine: Engine, n: int) -> Experiment:
    try:
        return engine.state.experiment(n)
    except KeyError:
        raise Refused(f"there is no experiment {n}") from None


def _stop_training(engine: Engine, command: ev.StopTraining) -> str:
    first = engine.state.training
    n = command.n if command.n is not None else first.n if first else None
    why = command.reason or "stopped by hand"
    if n is None or not engine.trainings.stop(n, why, command.training):
        raise Refused("no training to stop")
    return f"stopping the training of experiment {n}"


def _pause(engine: Engine) -> str:
    if engine.state.paused is not None:
        raise Refused(f"paused already: {engine.state.paused}")
    engine.store.record(ev.Paused("paused by hand"))
    return "pausing after this training" if engine.state.training else "paused"


def _resume(engine: Engine) -> str:
    if engine.state.paused is None:
        raise Refused("not paused")
    reason = limits.reached(engine.state, time.time())
    if reason and reason.startswith(limits.LIMITS):
        raise Refused(f"{reason}; L sets other limits")
    engine.store.record(ev.Resumed())
    return "going on"


async def _decide(engine: Engine, command: ev.Approve | ev.Reject | ev.Edit) -> str:
    e = _experiment(engine, command.n) if command.n is not None else engine.state.waiting
    if e is None:
        raise Refused("no candidate waits for approval")
    in_queue = isinstance(command, ev.Reject) or (isinstance(command, ev.Approve) and command.first)
    if e.phase != "waiting" and not (in_queue and e.phase == "queued"):
        raise Refused(f"experiment {e.n} does not wait")
    match command:
        case ev.Approve(first=first):
            engine.store.record(ev.Approved(e.n, first))
            return f"experiment {e.n} is {'next' if first else 'in the queue'}"
        case ev.Reject(reason=reason):
            engine.store.record(ev.Rejected(e.n, reason.strip() or "no reason given"))
            return f"experiment {e.n} rejected"
        case ev.Edit(text=text):
            return await _edit(engine, e, text)


async def _edit(engine: Engine, e: Experiment, text: str) -> str:
    """The human's version of a waiting candidate; it still waits for approval."""
    if engine.state.editable.endswith(".py"):
        try:
            await asyncio.to_thread(ast.parse, text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Refused(f"it does not parse: {str(error) or 'nested too deeply'}") from error
    if not await engine.proposer.replace(e, text):
        raise Refused(f"experiment {e.n} does not wait any more")
    return f"experiment {e.n} now has your version"


def _set_limits(engine: Engine, text: str) -> str:
    """Other limits, from now on. A run that one of them would end at once is told so by its pause."""
    try:
        new = goal.parse(text, engine.state.metric, engine.state.direction)
    except ValueError as error:
        raise Refused(str(error)) from None
    engine.store.record(ev.LimitsSet(new))
    return "limits set" if text.strip() else "no limits from now on"


def _take_back(engine: Engine, id: int) -> str:
    if all(message.id != id for message in engine.state.steering):
        raise Refused("that message does not wait any more")
    engine.store.record(ev.TakenBack(id))
    return "taken back; an agent that is at work may have read it"


def _set_mode(engine: Engine, approval: bool) -> str:
    engine.store.record(ev.ModeSet(approval))
    if not approval:
        engine.permissions.leave_to_policy()
    return "every candidate waits for your approval" if approval else "candidates train without approval"


def _override(engine: Engine, command: ev.Override) -> str:
    e = _experiment(engine, command.n)
    if not e.judged or e.value is None:
        raise Refused(f"experiment {e.n} has no {engine.state.metric} to keep or discard")
    if e.phase == command.status:
        raise Refused(f"experiment {e.n} is {command.status} already")
    if command.status == "discard" and engine.state.kept == 1:
        raise Refused("it is the only one kept: a run needs an incumbent")
    if e.n in engine.state.rows_due:
        raise Refused(f"the row of experiment {e.n} is not written yet: try again in a moment")
    engine.store.record(ev.Overridden(e.n, command.status, command.reason))
    return f"experiment {e.n}: {command.status}"


def _run_again(engine: Engine, n: int) -> str:
    e = _experiment(engine, n)
    if not e.judged or e.value is None:
        raise Refused(f"experiment {n} has no {engine.state.metric} to measure again")
    engine.store.record(ev.RerunAsked(n))
    return f"experiment {n} trains once more after the training under way"

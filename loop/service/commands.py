"""What a human may ask of a running engine, and what it answers."""

from __future__ import annotations

import ast

from loop import events as ev
from loop.client import Refused
from loop.engine import Engine
from loop.judging import limits
from loop.records import other_rows, results
from loop.state import Experiment


def obey(engine: Engine, command: ev.AnyCommand) -> str:
    """Carry out a command; returns a sentence. Raises `Refused` with the reason not to."""
    match command:
        case ev.Pause():
            return _pause(engine)
        case ev.Resume():
            return _resume(engine)
        case ev.Approve() | ev.Reject() | ev.Edit():
            return _decide(engine, command)
        case ev.Permit(allow=allow, id=id):
            title = engine.questions.answer(id, allow)
            if title is None:
                raise Refused("no agent asks for leave")
            return f"{'allowed' if allow else 'not allowed'}: {title}"
        case ev.StopTraining(reason=reason):
            if not engine.stop_training(reason or "stopped by hand"):
                raise Refused("no training run to stop")
            return "stopping this run"
        case ev.StopEngine(now=now):
            engine.stop("stopped by hand", now=now)
            return "stopping now" if now else "stopping after this run"
        case ev.Steer(text=text):
            if not text.strip():
                raise Refused("an empty message")
            engine.record(ev.Steered(text.strip()[:4000]))
            return "the agent reads it at its next proposal"
        case ev.SetMode(approval=approval):
            return _set_mode(engine, approval)
        case ev.SetLimits(limits=new):
            engine.record(ev.LimitsSet(new))
            return "limits set"
        case ev.Override():
            return _override(engine, command)
        case ev.RunAgain(n=n):
            return _run_again(engine, n)
        case ev.GetExperiment() | ev.GetOthers():
            raise AssertionError("the server answers questions itself")


def detail(engine: Engine, n: int) -> ev.ExperimentDetail:
    """Everything kept about experiment `n`. Raises `Refused` when there is none."""
    _experiment(engine, n)
    return engine.archive.detail(n)


def others(engine: Engine) -> list[str]:
    """Rows of results.tsv that are not this run's."""
    return other_rows.rows(results.lines(engine.paths.results), engine.state)


def _experiment(engine: Engine, n: int) -> Experiment:
    try:
        return engine.state.experiment(n)
    except KeyError:
        raise Refused(f"there is no experiment {n}") from None


def _pause(engine: Engine) -> str:
    if engine.state.paused is not None:
        raise Refused(f"paused already: {engine.state.paused}")
    engine.record(ev.Paused("paused by hand"))
    return "pausing after this run" if engine.state.training else "paused"


def _resume(engine: Engine) -> str:
    if engine.state.paused is None:
        raise Refused("not paused")
    reason = limits.reached(engine.state, engine.now())
    if reason and reason.startswith("limit reached"):
        raise Refused(f"{reason}; start again with a higher limit")
    engine.record(ev.Resumed())
    return "going on"


def _decide(engine: Engine, command: ev.Approve | ev.Reject | ev.Edit) -> str:
    e = _experiment(engine, command.n) if command.n is not None else engine.state.waiting
    if e is None:
        raise Refused("no candidate waits for approval")
    in_queue = isinstance(command, ev.Reject) or (isinstance(command, ev.Approve) and command.first)
    if e.phase != "waiting" and not (in_queue and e.phase == "queued"):
        raise Refused(f"experiment {e.n} does not wait")
    match command:
        case ev.Approve(first=first):
            engine.record(ev.Approved(e.n, first))
            return f"experiment {e.n} is {'next' if first else 'in the queue'}"
        case ev.Reject(reason=reason):
            engine.record(ev.Rejected(e.n, reason.strip() or "no reason given"))
            return f"experiment {e.n} rejected"
        case ev.Edit(text=text):
            return _edit(engine, e, text)


def _edit(engine: Engine, e: Experiment, text: str) -> str:
    """The human's version of a waiting candidate; it still waits for approval."""
    if engine.state.editable.endswith(".py"):
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Refused(f"it does not parse: {str(error) or 'nested too deeply'}") from error
    engine.replace_candidate(e, text)
    return f"experiment {e.n} now has your version"


def _set_mode(engine: Engine, approval: bool) -> str:
    engine.record(ev.ModeSet(approval))
    if not approval:
        engine.questions.leave_to_policy()
        for e in [e for e in engine.state.experiments if e.phase == "waiting"]:
            engine.record(ev.Approved(e.n))
    return "every candidate waits for your approval" if approval else "candidates train without approval"


def _override(engine: Engine, command: ev.Override) -> str:
    e = _experiment(engine, command.n)
    if not e.judged or e.value is None:
        raise Refused(f"experiment {e.n} has no {engine.state.metric} to keep or discard")
    if e.phase == command.status:
        raise Refused(f"experiment {e.n} is {command.status} already")
    if command.status == "discard" and engine.state.kept == 1:
        raise Refused("it is the only one kept: a run needs an incumbent")
    engine.record(ev.Overridden(e.n, command.status, command.reason))
    return f"experiment {e.n}: {command.status}"


def _run_again(engine: Engine, n: int) -> str:
    e = _experiment(engine, n)
    if not e.judged or e.value is None:
        raise Refused(f"experiment {n} has no {engine.state.metric} to measure again")
    engine.record(ev.RerunAsked(n))
    return f"experiment {n} runs once more after the run under way"

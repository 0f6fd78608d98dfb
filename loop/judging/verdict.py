"""The verdict on an experiment whose trainings have ended: keep, discard, crash, or train again first. Pure.

Two rules. `improved` is autoresearch's own: any better number is kept. `confirmed` keeps what very probably
helps, trains again where that is worth its time, and follows the machine's drift (`decision.py`).
docs/verdicts.md shows what both rules do in a long simulated run.
"""

from __future__ import annotations

from statistics import fmean

from msgspec import Struct

from loop.events import Status
from loop.judging import decision
from loop.judging.comparison import compare
from loop.judging.decision import Weighed
from loop.judging.history import (
    Clock,
    belief_of,
    history_of,
    kinds_of,
    noise_of,
    parts_of,
    reference,
    scale_of,
    trainings_of,
)
from loop.judging.noise import Noise
from loop.judging.rules import Rules as Rules
from loop.judging.trust import unlike_baseline
from loop.state import Experiment, RunState, Training

TOGETHER = 1.0
"""Gain that near misses must promise together to be tried, in standard deviations of one training."""
FEWEST, NEWEST = 3, 60
"""Near misses that are tried together at least, and how many of the newest are looked at."""


class Verdict(Struct, frozen=True):
    """What becomes of an experiment, and why.

    `value` is the mean over its trainings, None for a crash. `delta` is `value` minus the incumbent's value,
    None without an incumbent. `stderr` is the standard error of `delta`, None when the noise is not known.
    """

    status: Status
    value: float | None
    memory_gb: float
    delta: float | None
    reason: str
    evidence: str = ""
    stderr: float | None = None
    trainings: int = 1


class Rerun(Struct, frozen=True):
    """No verdict yet: experiment `n`, the candidate or the incumbent, trains once more with another seed."""

    n: int
    reason: str


def judge(state: RunState, e: Experiment, rules: Rules) -> Verdict | Rerun:
    """Judge an experiment whose last training has ended, or say which training is needed first.

    An experiment whose training was stopped is discarded with the reason; one without a metric to believe is
    a crash. One that is stale (`history.is_stale`) is compared with its own parent: only a discard or a crash
    is its verdict then, and anything else means that it has to train again on top of the incumbent. Raises
    ValueError when its last training has not ended.
    """
    last, values = _deciding(state, e), e.values
    if last is None or last.finished is None:
        raise ValueError(f"experiment {e.n} has no finished training")
    ended = last.finished
    value = fmean(values) if values else None
    peaks = [t.finished.memory_gb for t in e.trainings if t.finished and t.commit == e.commit]
    memory_gb = max(peaks, default=0.0)
    if ended.outcome in ("stopped", "doomed"):
        return Verdict("discard", value if values else ended.value, memory_gb, None, ended.reason)
    if ended.outcome != "finished" or ended.value is None:
        reason = ended.reason or f"no finite {state.metric}"
        if value is None:
            return Verdict("crash", None, memory_gb, None, reason)
        return Verdict("discard", value, memory_gb, None, f"a rerun failed: {reason}", trainings=len(values))
    assert value is not None, "the last training has a value"
    if state.has_judge and not ended.verified:
        reason = f"unverified: {state.metric} was printed, but the judge did not measure it"
        return Verdict("crash", None, memory_gb, None, reason)
    flagged = "; ".join([*ended.flags, *unlike_baseline(state, last)])
    if state.incumbent is None:  # the unchanged code cannot cheat: what it shows is the machine's doing
        reason = f"baseline, but {flagged}" if flagged else "baseline"
        return Verdict("keep", value, memory_gb, None, reason, trainings=len(values))
    if flagged:
        return Verdict("discard", value, memory_gb, None, flagged, trainings=len(values))
    return _compare(state, e, value, memory_gb, rules)


def attempts(e: Experiment) -> int:
    """How many versions of this idea have trained: the candidate, and each repair of it.

    When it is merged onto a newer incumbent, the count begins anew.
    """
    return e.versions - e.moved


def _deciding(state: RunState, e: Experiment) -> Training | None:
    """The last training. The unchanged code may have trained several times at once: there it is the last one
    that gave a number."""
    measured = [t for t in e.trainings if t.value is not None and t.outcome == "finished"]
    return measured[-1] if measured and state.incumbent is None else e.last_training


def _compare(state: RunState, e: Experiment, value: float, memory_gb: float, rules: Rules) -> Verdict | Rerun:
    incumbent = reference(state, e)
    assert incumbent.value is not None
    noise, ours, best = noise_of(state), len(e.values), incumbent.value
    if rules.rule == "confirmed" and noise.known and not noise.none:
        return _confirmed(state, e, incumbent, value, memory_gb, noise, rules)
    delta = value - best
    gain = -delta if state.direction == "min" else delta
    weighed = improved(gain, ours, len(incumbent.values) or 1, noise)
    simpler = e.added < e.removed and rules.line_price > 0 and gain == 0
    if rules.rule == "confirmed":
        if not noise.known and (gain > 0 or simpler):
            # In turn. A training of the incumbent that failed counts as its turn: else it would never end.
            tries = sum(t.commit == incumbent.commit for t in incumbent.trainings)
            return Rerun(incumbent.n if tries <= ours else e.n, "the noise is not known yet")
        if simpler:
            weighed = Weighed("keep", weighed.why, weighed.evidence, weighed.stderr)
    return _verdict(state, weighed, best, value, memory_gb, ours)


def _confirmed(
    state: RunState,
    e: Experiment,
    incumbent: Experiment,
    value: float,
    memory_gb: float,
    noise: Noise,
    rules: Rules,
) -> Verdict | Rerun:
    """Rule `confirmed`, where trainings have noise."""
    scale, clock = scale_of(state, noise), Clock(state, incumbent)
    history, lines = history_of(state, incumbent, noise, clock), e.added - e.removed
    parts = parts_of(state, e, scale, history.kinds)
    candidate = trainings_of(e, scale, clock)
    found = compare(history, candidate, decision.price_of(lines, rules), parts)
    weighed = decision.decide(found, noise.deviation, value, lines, history.kinds, rules)
    if weighed.action == "rerun":
        return Rerun(e.n, weighed.why)
    if weighed.action == "rerun incumbent":
        return Rerun(incumbent.n, weighed.why)
    level = value - scale.sign * found.gain * noise.deviation
    return _verdict(state, weighed, level, value, memory_gb, found.ours)


def _verdict(
    state: RunState, weighed: Weighed, level: float, value: float, memory_gb: float, ours: int
) -> Verdict:
    """The verdict in words; `level` is the incumbent's metric that `value` is compared with."""
    delta = value - level
    reason = f"{state.metric} {level:.6f} -> {value:.6f} ({delta:+.6f}), {weighed.why}"
    status: Status = "keep" if weighed.action == "keep" else "discard"
    return Verdict(status, value, memory_gb, delta, reason, weighed.evidence, weighed.stderr, ours)


def near_misses(state: RunState, rules: Rules) -> list[Experiment]:
    """Discarded experiments that probably help, but each too little to be sure, once they are worth a try.

    The engine then tries them together: those with the largest expected gains, in order of their numbers.
    Each is used once, and a combination is no near miss itself.
    """
    if not rules.combine or rules.rule == "improved":
        return []
    noise = noise_of(state)
    if not noise.known or noise.none:
        return []
    scale = scale_of(state, noise)
    kinds, used = kinds_of(state, scale), {n for e in state.experiments for n in e.combines}
    unused = [
        e
        for e in state.experiments
        if e.phase == "discard" and e.stderr and not (e.combines or e.by_hand or e.n in used)
    ]
    beliefs = [(belief_of(e, scale, kinds), e) for e in unused[-NEWEST:]]
    hopeful = sorted(((b.gain, e.n) for b, e in beliefs if b and b.gain > 0), reverse=True)[: rules.combine]
    if len(hopeful) < FEWEST or sum(gain for gain, _ in hopeful) < TOGETHER:
        return []
    return [state.experiment(n) for n in sorted(n for _, n in hopeful)]


def improved(gain: float, ours: int, theirs: int, noise: Noise) -> Weighed:
    """Any gain is kept; the evidence says how much to believe it."""
    evidence, stderr = describe(gain, ours, theirs, noise)
    return Weighed("keep" if gain > 0 else "discard", evidence, evidence, stderr)


def describe(gain: float, ours: int, theirs: int, noise: Noise) -> tuple[str, float | None]:
    """The evidence for a difference in plain words, and its standard error (None: not known, or no noise)."""
    if not noise.known:
        return "noise not known", None
    if noise.none:
        return "no noise: trainings repeat exactly", None
    stderr = noise.of_difference(ours, theirs)
    score = abs(gain) / stderr
    trainings = f" over {ours} and {theirs} trainings" if ours > 1 else ""
    if score < 2:
        return f"within noise ({score:.1f} standard errors{trainings})", stderr
    return f"{score:.1f} standard errors{trainings}", stderr

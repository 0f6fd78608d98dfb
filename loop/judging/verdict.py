"""The verdict on an experiment whose trainings have ended: keep, discard, crash, or train again first. Pure.

Two rules. `improved` is autoresearch's own: any better number is kept. `confirmed` keeps a number that is
better by more than luck. Where one training cannot tell, candidate and incumbent are trained again in turn,
with other seeds, until the evidence is clear or another training is not worth its time. docs/verdicts.md
shows what both rules do in a long simulated run.
"""

from __future__ import annotations

from statistics import fmean
from typing import Literal

from msgspec import Struct

from loop.events import Status
from loop.judging.noise import Noise, needed, pooled
from loop.judging.trust import unlike_baseline
from loop.state import Experiment, RunState

FIRST_ERROR, LATER_ERROR = 0.03, 0.06
"""Chance that a candidate which is only as good as the incumbent passes after its first training, and after a
later one. Few candidates are trained a second time, so over a whole test it is kept with a chance below 5%.
"""
PROMISING = 1.5
"""Standard errors of gain below which another training is not worth its time: most changes help nothing."""
LOSS_BORNE = 1.0
"""Standard errors of loss that a simplification may show and still count as no loss."""


class Rules(Struct, frozen=True):
    """What the user can choose about judging."""

    rule: Literal["improved", "confirmed"] = "confirmed"
    baseline_runs: int = 2
    """Trainings of the baseline before anything is compared with it: they measure the noise."""
    max_runs: int = 3
    """Trainings of one candidate at most, its first included."""
    combine: int = 14
    """Near misses after which the engine tries them together; 0: never."""
    line_price: float = 0.02
    """What each line that a candidate adds must gain besides, in standard deviations of one training; all
    lines together at most one deviation. A change that removes lines is kept when it loses nothing beyond the
    noise. 0: lines do not count."""


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


class Weighed(Struct, frozen=True):
    """What the evidence says to do, and why in words."""

    action: Literal["keep", "discard", "rerun"]
    why: str
    evidence: str
    stderr: float | None = None


def judge(state: RunState, e: Experiment, rules: Rules) -> Verdict | Rerun:
    """Judge an experiment whose last training has ended, or say which training is needed first.

    An experiment whose training was stopped is discarded with the reason; one without a metric to believe is
    a crash. Raises ValueError when its last training has not ended.
    """
    last, values = e.last_training, e.values
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
        return Verdict("keep", value, memory_gb, None, f"baseline, but {flagged}" if flagged else "baseline")
    if flagged:
        return Verdict("discard", value, memory_gb, None, flagged, trainings=len(values))
    return _compare(state, e, value, memory_gb, rules)


def attempts(e: Experiment) -> int:
    """How many versions of this idea have trained: the candidate, and each repair of it."""
    return len({training.commit for training in e.trainings})


def _compare(state: RunState, e: Experiment, value: float, memory_gb: float, rules: Rules) -> Verdict | Rerun:
    assert state.incumbent is not None
    assert state.best is not None
    incumbent, noise = state.experiment(state.incumbent), noise_of(state)
    ours, theirs, best = len(e.values), len(incumbent.values) or 1, state.best
    delta = value - best
    gain = -delta if state.direction == "min" else delta
    weigh = improved if rules.rule == "improved" else confirmed
    weighed = weigh(gain, ours, theirs, noise, e.added - e.removed, rules)
    if weighed.action == "rerun":
        # In turn. A training of the incumbent that failed counts as its turn: else it would never end.
        tries = sum(r.commit == incumbent.commit for r in incumbent.trainings)
        return Rerun(incumbent.n if tries < ours else e.n, weighed.why)
    moved = f"{state.metric} {best:.6f} -> {value:.6f} ({delta:+.6f})"
    return Verdict(
        weighed.action, value, memory_gb, delta, f"{moved}, {weighed.why}", weighed.evidence, weighed.stderr,
        ours,
    )  # fmt: skip


def near_misses(state: RunState, rules: Rules) -> list[Experiment]:
    """Discarded experiments that were better, but by less than luck explains, once there are enough of them.

    The engine then tries them together. Each is used once, and a combination is no near miss itself.
    """
    if not rules.combine or rules.rule == "improved":
        return []
    used = {n for e in state.experiments for n in e.combines}
    found = [
        e
        for e in state.experiments
        if e.phase == "discard" and e.stderr and e.delta and not (e.combines or e.by_hand or e.n in used)
        if state.better(e.delta, 0.0)
    ]
    return found if len(found) >= rules.combine else []


def noise_of(state: RunState) -> Noise:
    """The noise that all experiments of this run show that were trained more than once."""
    return pooled(e.values for e in state.experiments if len(e.trainings) > 1)


def improved(
    gain: float, ours: int, theirs: int, noise: Noise, lines: int = 0, rules: Rules | None = None
) -> Weighed:
    """Any gain is kept; the evidence says how much to believe it."""
    evidence, stderr = describe(gain, ours, theirs, noise)
    return Weighed("keep" if gain > 0 else "discard", evidence, evidence, stderr)


def confirmed(gain: float, ours: int, theirs: int, noise: Noise, lines: int, rules: Rules) -> Weighed:
    """Keep what is better by more than luck; train again what may be.

    `gain` is how much better the mean of the candidate's `ours` trainings is than the mean of the incumbent's
    `theirs` trainings; `lines` is how many lines of code the candidate adds (negative: removes).
    """
    simpler = lines < 0 and rules.line_price > 0
    evidence, stderr = describe(gain, ours, theirs, noise)
    if not noise.known:
        if gain > 0 or (simpler and gain == 0):
            return Weighed("rerun", "the noise is not known yet", evidence)
        return Weighed("discard", evidence, evidence)
    if stderr is None:
        kept = gain > 0 or (simpler and gain == 0)
        return Weighed("keep" if kept else "discard", evidence, evidence)
    price = noise.deviation * min(1.0, rules.line_price * max(0, lines))
    error = FIRST_ERROR if ours == 1 else LATER_ERROR
    need = needed(error, noise.degrees)
    if gain - price >= need * stderr:
        return Weighed("keep", evidence, evidence, stderr)
    if simpler and ours > 1 and theirs > 1 and gain >= -LOSS_BORNE * stderr:
        why = f"no loss beyond noise, and {-lines} lines fewer"
        return Weighed("keep", f"{evidence}: {why}", evidence, stderr)
    least = price + (-LOSS_BORNE if simpler else PROMISING) * stderr
    if gain > least and ours < rules.max_runs:
        return Weighed("rerun", f"{evidence}, {need:.1f} needed", evidence, stderr)
    why = evidence
    if gain > 0:
        why += f", {need:.1f} needed" + (f" and {price:.6f} for {lines} lines more" if price else "")
    return Weighed("discard", why, evidence, stderr)


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

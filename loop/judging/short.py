"""The reason of a verdict in a few words, for a narrow column: `within noise`, `12% fewer steps`. Pure.

The sentence that it shortens stands in `Verdict.reason`; this one is read at a glance beside fifty others.
"""

from __future__ import annotations

import re

from loop.judging.history import reference
from loop.judging.verdict import Verdict
from loop.state import Experiment, RunState, Training

WIDEST = 15
"""Characters that no short reason exceeds."""
INSIDE = 2.0
"""Standard errors up to which a difference is called noise, as in `verdict.describe`."""
FEWER = 0.03
"""Share of the incumbent's steps from which it is worth saying that a candidate made fewer."""
KNOWN = (
    (r"out of ?memory|OutOfMemory|more than .* GB", "out of memory"),
    (r"time-?out|timed out|longer than", "timed out"),
    (r"^loss is |no finite|diverged", "diverged"),
    (r"^refused by the judge", "judge refused"),
    (r"^unverified", "not measured"),
    (r"^over budget|^it trained for", "over budget"),
    (r"on other data", "other data"),
    (r"does not hold on text", "fits this text"),
    (r"^it changed ", "changed files"),
    (r"^it ended after", "ended early"),
    (r"^stopped early", "stopped early"),
    (r"^stopped", "stopped by you"),
    (r"^a rerun failed", "rerun failed"),
)
"""Patterns of reasons, and what they are called in short; the first that is found counts."""
ERROR = re.compile(r"\b([A-Z]\w{2,}(?:Error|Exception))\b")
EXIT = re.compile(r"exit code -?\d+")


def short_reason(state: RunState, e: Experiment, judged: Verdict) -> str:
    """Why the verdict on `e` is what it is, in at most `WIDEST` characters. `state` is that before it."""
    if state.incumbent is None and judged.status == "keep":
        return "baseline"
    if judged.delta is None:
        return _failure(judged.reason)
    gain = -judged.delta if state.direction == "min" else judged.delta
    sure = abs(gain) / judged.stderr if judged.stderr else None
    if judged.status == "keep":
        if gain <= 0:
            return "simpler"
        return f"{min(sure, 99.0):.1f} se better" if sure is not None else "better"
    if gain == 0:
        return "no difference"
    if sure is not None and sure < INSIDE:
        return "within noise"
    if gain > 0:
        return "not sure enough"
    return _fewer_steps(state, e) or "worse"


def _failure(reason: str) -> str:
    """The short name of a reason that is no comparison."""
    for pattern, name in KNOWN:
        if re.search(pattern, reason):
            return name
    if error := ERROR.search(reason):
        return error[1][:WIDEST]
    if code := EXIT.search(reason):
        return code[0][:WIDEST]
    return reason.split(":")[0][:WIDEST]


def _fewer_steps(state: RunState, e: Experiment) -> str:
    """`12% fewer steps` where the candidate was slower than the incumbent; empty where it was not."""
    ours, theirs = _steps(e.last_training), _steps(reference(state, e).last_training)
    if not ours or not theirs or ours > (1 - FEWER) * theirs:
        return ""
    return f"{min(0.99, 1 - ours / theirs):.0%} fewer steps"


def _steps(training: Training | None) -> float:
    """The steps that a training made, as it printed them; 0 where it did not."""
    steps = training.summary.get("num_steps") if training else None
    return steps if isinstance(steps, float) else 0.0

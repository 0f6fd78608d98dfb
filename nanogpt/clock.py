"""The clock of the training budget, and the result that a training hands to the process that started it.

Agents may read this file but never change it. train.py imports `Clock` through prepare.py. All times are in
seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import MutableMapping
from pathlib import Path
from types import BuiltinFunctionType

SLACK_STEPS, SLACK_S = 3, 60.0
"""The budget leaves out the first `SLACK_STEPS` optimizer steps (they compile the model and touch memory for
the first time), but at most `SLACK_S` seconds of them. It also leaves out the start-up before the clock
begins, again at most `SLACK_S` seconds."""


class Cheating(Exception):
    """This training breaks a rule without which val_bpb means nothing; the message is one sentence."""


def genuine(function: object, name: str) -> None:
    """Raise `Cheating` unless `function` is the compiled function called `name`.

    Code in Python cannot make an object of that type, so it cannot put another function in its place.
    """
    if type(function) is not BuiltinFunctionType or function.__name__ != name:
        raise Cheating(f"{name} was replaced")


genuine(time.monotonic, "monotonic")
genuine(time.process_time, "process_time")
_monotonic, _process_time = time.monotonic, time.process_time


class Session:
    """Measures one training process, from the import of this module to the result.

    It reads three environment variables:

    AUTORESEARCH_NONCE   a secret that the result must repeat to be believed. It is removed from the
                         environment at once, so that code that runs later cannot read it there
    AUTORESEARCH_RESULT  the file that the result is written to; without it nothing is written
    AUTORESEARCH_CLOCK   `cpu` counts seconds of this process's CPU; else seconds of the wall clock count
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._nonce = environ.pop("AUTORESEARCH_NONCE", "")
        self._path = environ.get("AUTORESEARCH_RESULT", "")
        self._now = _process_time if environ.get("AUTORESEARCH_CLOCK") == "cpu" else _monotonic
        self._imported, self._imported_wall = self._now(), _monotonic()
        self._began: float | None = None
        self._warm_up = self._steps = 0.0
        self._training: float | None = None
        self._ended = self._imported_wall

    def now(self) -> float:
        """Return the time on the clock that counts: wall or CPU."""
        return self._now()

    def begin(self) -> float:
        """Start the clock and return when it started.

        Of a start-up longer than `SLACK_S` the rest counts as training. A later call returns the first start,
        so a training that makes a second clock gains no time.
        """
        if self._began is None:
            self._began = min(self._now(), self._imported + SLACK_S)
        return self._began

    def tick(self) -> None:
        """Count one optimizer step. The time of the first `SLACK_STEPS`, up to `SLACK_S`, is left out."""
        self._steps += 1
        if self._steps <= SLACK_STEPS and self._began is not None:
            self._warm_up = min(self._now() - self._began, SLACK_S)

    def close(self) -> None:
        """End the training time. Raises `Cheating` on a second call, because a training is measured once."""
        if self._training is not None:
            raise Cheating("evaluate was called twice: a training is measured once, at its end")
        began = self._imported if self._began is None else self._began
        self._training = self._now() - began - self._warm_up
        self._ended = _monotonic()

    def hand_over(self, val_bpb: float, hidden_bpb: float, data: str) -> None:
        """Write the result, as JSON, to the file that AUTORESEARCH_RESULT names.

        The printed summary proves nothing, because the code that is trained can print whatever it likes.
        `data` is the identity of the data that was measured on. `training_seconds` and `excluded_seconds` are
        of the clock that counts, `evaluation_seconds` and `total_seconds` of the wall clock up to now. A
        later call replaces the file as a whole.
        """
        if not self._path:
            return
        began = self._imported if self._began is None else self._began
        result = {
            "nonce": self._nonce,
            "val_bpb": val_bpb,
            "hidden_bpb": hidden_bpb,
            "data": data,
            "training_seconds": self._training,
            "excluded_seconds": began - self._imported + self._warm_up,
            "evaluation_seconds": _monotonic() - self._ended,
            "total_seconds": _monotonic() - self._imported_wall,
            "steps": int(self._steps),
        }
        with contextlib.suppress(OSError):  # without the file the number is not believed: nothing to add here
            draft = Path(f"{self._path}.draft")
            draft.write_text(json.dumps(result))
            draft.replace(self._path)


SESSION = Session(os.environ)
"""The session of this process."""


class Clock:
    """Counts the training budget; train.py makes one and asks it how much of the budget is used.

    AUTORESEARCH_BUDGET_S is the budget in seconds (300 by default), of the wall clock, or of this process's
    CPU with AUTORESEARCH_CLOCK=cpu. With AUTORESEARCH_MAX_STEPS a number of steps is the budget instead.
    `SLACK_STEPS` and `SLACK_S` say what the budget leaves out.
    """

    def __init__(self, session: Session | None = None) -> None:
        self._session = session or SESSION
        self.budget_s = float(os.environ.get("AUTORESEARCH_BUDGET_S", "300"))
        self.max_steps = int(os.environ.get("AUTORESEARCH_MAX_STEPS", "0"))
        self._start = self._session.begin()
        self._excluded = 0.0
        self._last = self._start
        self.steps = 0

    def tick(self) -> None:
        """Count one step; call this once after every optimizer step."""
        self._session.tick()
        self.steps += 1
        self._last = self._session.now()
        if self.steps <= SLACK_STEPS:
            self._excluded = min(self._last - self._start, SLACK_S)

    @property
    def elapsed_s(self) -> float:
        """Seconds of the budget that were used up to the last step."""
        return max(0.0, self._last - self._start - self._excluded)

    @property
    def fraction(self) -> float:
        """The share of the budget that is used, 0 to 1; the learning-rate schedule follows it."""
        done = self.steps / self.max_steps if self.max_steps else self.elapsed_s / self.budget_s
        return min(1.0, done)

    @property
    def over(self) -> bool:
        """Whether the budget is used up; never before the first step."""
        return self.fraction >= 1.0 and self.steps > 0

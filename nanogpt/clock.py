"""The budget clock, and what a run hands over to whoever started it.

Agents may read this file and never change it; train.py gets `Clock` through prepare.py.
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
"""Warm-up steps, and seconds, that the budget clock leaves out at most; the start before it has as many."""


class Cheating(Exception):
    """The run is not what it must be for its val_bpb to mean anything; one sentence."""


def genuine(function: object, name: str) -> None:
    """Raise `Cheating` unless this is the compiled function of that name, which Python cannot imitate."""
    if type(function) is not BuiltinFunctionType or function.__name__ != name:
        raise Cheating(f"{name} was replaced")


genuine(time.monotonic, "monotonic")
genuine(time.process_time, "process_time")
_monotonic, _process_time = time.monotonic, time.process_time


class Session:
    """One training process as it is measured: when it began, when its clock did, whether it was evaluated.

    The number used once that proves a result to the engine is taken out of the environment on import.
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
        return self._now()

    def begin(self) -> float:
        """The clock starts; of a start-up longer than the slack the rest counts. A later clock has no say."""
        if self._began is None:
            self._began = min(self._now(), self._imported + SLACK_S)
        return self._began

    def tick(self) -> None:
        """One step is done; the first ones are left out of the budget, up to the slack."""
        self._steps += 1
        if self._steps <= SLACK_STEPS and self._began is not None:
            self._warm_up = min(self._now() - self._began, SLACK_S)

    def close(self) -> None:
        """Training is over, its time is what counts. A run is measured once."""
        if self._training is not None:
            raise Cheating("evaluate was called twice: a run is measured once, at its end")
        began = self._imported if self._began is None else self._began
        self._training = self._now() - began - self._warm_up
        self._ended = _monotonic()

    def hand_over(self, val_bpb: float, hidden_bpb: float, data: str) -> None:
        """Give the result to whoever started us, in a file of theirs: printed text proves nothing."""
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
        with contextlib.suppress(OSError):
            Path(self._path).write_text(json.dumps(result))


SESSION = Session(os.environ)


class Clock:
    """The training budget. Seconds of the wall, or of this process's CPU with AUTORESEARCH_CLOCK=cpu.

    `budget_s` comes from AUTORESEARCH_BUDGET_S. The first `SLACK_STEPS` steps (compilation, first touch of
    memory) are left out, but no more than `SLACK_S` seconds of them.
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
        """Call after every optimizer step."""
        self._session.tick()
        self.steps += 1
        self._last = self._session.now()
        if self.steps <= SLACK_STEPS:
            self._excluded = min(self._last - self._start, SLACK_S)

    @property
    def elapsed_s(self) -> float:
        """Counted seconds up to the last step."""
        return max(0.0, self._last - self._start - self._excluded)

    @property
    def fraction(self) -> float:
        """Share of the budget that is used, 0 to 1: what schedules follow."""
        done = self.steps / self.max_steps if self.max_steps else self.elapsed_s / self.budget_s
        return min(1.0, done)

    @property
    def over(self) -> bool:
        return self.fraction >= 1.0 and self.steps > 0

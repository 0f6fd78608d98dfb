"""The clock of the training budget: it tells a training when to stop. All times are in seconds.

Agents may read this file but never change it. train.py imports `Clock` through prepare.py. What a training
really takes, from the start of its process to its end, is measured by the engine.
"""

from __future__ import annotations

import os
import time

SLACK_STEPS, SLACK_S = 3, 240.0
"""The budget leaves out the first `SLACK_STEPS` optimizer steps (they compile the model and touch memory for
the first time), but at most `SLACK_S` seconds of them. To compile the large model takes 45 s on 16 cores and
minutes on two; nothing can be won there, because the engine has a clock of its own."""


class Clock:
    """Counts the training budget; train.py makes one and asks it how much of the budget is used.

    It reads three environment variables:

    AUTORESEARCH_BUDGET_S   the budget in seconds, 300 by default
    AUTORESEARCH_CLOCK      `cpu` counts seconds of this process's CPU; else seconds of the wall clock count
    AUTORESEARCH_MAX_STEPS  a number of steps that is the budget instead
    """

    def __init__(self) -> None:
        self.budget_s = float(os.environ.get("AUTORESEARCH_BUDGET_S", "300"))
        self.max_steps = int(os.environ.get("AUTORESEARCH_MAX_STEPS", "0"))
        self._now = time.process_time if os.environ.get("AUTORESEARCH_CLOCK") == "cpu" else time.monotonic
        self._start = self._last = self._now()
        self._excluded = 0.0
        self.steps = 0

    def tick(self) -> None:
        """Count one step; call this once after every optimizer step."""
        self.steps += 1
        self._last = self._now()
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
